"""Gateways: doors of a node for clients that are not ours.

* `guard`: what may come in at all doors
* `exchange`: an HTTP request and its answer, as values
* `sq`: SQ's REST API over replicas, without IO
* `metrics`: what Prometheus reads of a node
* `health`: whether a node can do its work
* `events`: changes as server-sent events
* `hooks`: changes that are posted to an address
* `http1`: connections of HTTP/1.1, leniently, with limits
* `brought`: what a request of SQ is about is here before it is carried out
* `http`: SQ's API, changes, metrics, health
* `measured`: what `phextsync measure` found last
* `asking`: what a task asks of the node of a folder
* `transforms`: two changes of one text, each as it is after the other
* `editor_positions`: places in a text by line and character
* `edited_text`: one file in one editor, and its scroll
* `content_length`: messages behind headers with their length
* `editor_file`: one open file of an editor, kept the same as its scroll
* `told_cursors`: who is at which scroll with which cursor, as facts of presence
* `editor_cursors`: the cursors of an editor and of others
* `editor`: the protocol of Teamtype's plug-ins for editors
* `editor_stdio`: the same over standard input and output
* `tools`: what a language model may ask for, as data
* `mail_tools`: what it may ask of boxes and messages
* `task_tools`: what it may ask of tasks
* `quarantine_tools`: what it may ask of writers whose work waits
* `readers`: what each of those who ask knows of scrolls
* `agent`: what a language model may ask of scrolls
* `mcp_bounds`: what clients of the MCP server may take over HTTP
* `mcp_stdio`: the streams of one client of it
* `mcp_server`: the same as a server of the Model Context Protocol
"""
