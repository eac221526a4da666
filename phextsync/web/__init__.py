"""Web: what browsers and editors use of a node, of which nothing is imported unless it is served.

* `limits`: what clients can make a node hold
* `times`: the time of day
* `lib0`: messages of Yjs' protocols as bytes
* `awareness`: what clients at one scroll tell of themselves
* `open_scrolls`: scrolls that clients have open, and what each has of them
* `elsewhere`: clients at other nodes
* `speaking`: messages between one client and one scroll
* `hocuspocus`: many scrolls over one web socket
* `websockets`: web sockets for ASGI
* `editing`: the web sockets over which scrolls are edited
* `api`: operations as JSON over HTTP
* `memory_json`: what Anthropic's memory stores API takes and answers
* `memory_door`: memory stores for clients of that API
* `streams`: streams of events
* `built`: scripts and styles
* `rendering`: values as HTML
* `recent`: what changed last
* `walking`: the nine dimensions of a phext, a page at a time
* `shell`: what all pages have in common
* `forms`: what a person sends with a page
* `library`: the view of what there is
* `one_scroll`: the view of a scroll
* `drawing`: where the nodes of a mesh stand in a picture
* `mesh_view`: the view of machines and links
* `folders`: the files of a bound directory, a page at a time
* `directories_view`: the view of bound directories
* `samples`: how much a node does, now and then
* `figures_view`: the view of that over time
* `login`: a token that becomes a cookie
* `asyncio_app`: an application of another event loop
* `entrance`: what may come in
* `app`: which path leads where
* `requests`: requests over HTTP for ASGI
* `server`: listens
* `serving`: the server with all that it serves
"""
