// The live editor: one island on the page of a scroll, in the place of its plain form. It lies in a
// shadow root, where styles are made without markup, as the content security policy wants it.

import { defaultKeymap } from '@codemirror/commands'
import { search, searchKeymap } from '@codemirror/search'
import { Compartment, EditorState } from '@codemirror/state'
import { drawSelection, EditorView, keymap, lineNumbers } from '@codemirror/view'
import { yUndoManagerKeymap } from 'y-codemirror.next'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'
import { binding } from '../editor/binding.js'
import { blame } from '../editor/blame.js'
import { COLOURS, cursors, people } from '../editor/cursors.js'
import { look, markdown } from '../editor/look.js'
import { preview } from '../editor/preview.js'

const PREVIEW_MS = 200
const PREVIEW_SHARE = 4 // a preview that takes long waits so many times as long for the next
const REFUSED = [4400, 4500] // codes of closed sockets after which there is no use in trying again
const NAME = 'phextsync.name'
const TAKEN = 100 // of messages: asks the node whether it took what was sent before, and that it did

/** Do something with what the browser keeps, which may be nothing at all. */
function kept(act) {
  try {
    return act(localStorage)
  } catch {
    return null
  }
}

const host = document.getElementById('editor')
const plain = document.getElementById('plain')

class Editor {
  constructor() {
    this.doc = new Y.Doc()
    this.text = this.doc.getText('text')
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws'
    const address = `${scheme}://${location.host}${host.dataset.sync}`
    this.provider = new WebsocketProvider(address, host.dataset.at, this.doc, { disableBc: true })
    this.awareness = this.provider.awareness
    this.edits = this.asked = this.taken = 0
    this.isOpen = false
    this.isOut = false
    this.writing = new Compartment()
    this.provider.on('sync', isSynced => isSynced && this.open())
    this.provider.on('status', ({ status }) => this.tell(status))
    this.provider.on('connection-close', event => this.closed(event))
    this.doc.on('update', (_, origin) => {
      if (origin === this.provider) return
      this.edits++
      this.ask()
    })
    this.provider.messageHandlers[TAKEN] = () => {
      this.taken = this.asked
      this.ask()
    }
    this.awareness.on('change', () => this.tellWho())
    addEventListener('beforeunload', event => this.hasUnsent && event.preventDefault())
    addEventListener('loggedout', event => this.loggedOut(event))
    this.nameField()
  }

  /** Whether there is something here of which the node has not said that it took it. */
  get hasUnsent() { return this.taken < this.edits }

  /** Ask for that, behind what was sent, one question at a time. */
  ask() {
    const { synced, ws } = this.provider
    if (!this.hasUnsent || this.asked > this.taken || !synced || ws.readyState !== ws.OPEN) return
    this.asked = this.edits
    ws.send(Uint8Array.of(TAKEN))
  }

  /** Take the place of the plain form, once the text is here. */
  open() {
    this.ask()
    if (this.isOpen) return
    this.isOpen = true
    plain.remove()
    host.hidden = false
    const root = host.querySelector('.writing').attachShadow({ mode: 'open' })
    this.view = new EditorView({
      root,
      parent: root,
      state: EditorState.create({ doc: this.text.toString(), extensions: this.extensions() }),
    })
    this.pane('preview', pane => this.keepPreview(pane))
    const lines = blame(this.view, host.dataset.blame)
    host.querySelector('[data-blame-toggle]').addEventListener('click', event => {
      const isOn = event.target.getAttribute('aria-pressed') !== 'true'
      event.target.setAttribute('aria-pressed', isOn)
      lines.show(isOn)
    })
    this.tellWho()
  }

  extensions() {
    return [
      keymap.of([...yUndoManagerKeymap, ...searchKeymap, ...defaultKeymap]),
      lineNumbers(),
      drawSelection(),
      search({ top: true }),
      markdown,
      look,
      EditorView.lineWrapping,
      EditorView.contentAttributes.of({ 'aria-label': `Text of ${host.dataset.at}` }),
      this.writing.of([]),
      binding(this.text, new Y.UndoManager(this.text)),
      cursors(this.awareness),
    ]
  }

  /** A button that shows a pane and hides it. */
  pane(name, begin) {
    const pane = host.querySelector(`.${name}`)
    const button = host.querySelector(`[data-pane="${name}"]`)
    button.addEventListener('click', () => {
      pane.hidden = !pane.hidden
      button.setAttribute('aria-pressed', !pane.hidden)
      host.classList.toggle('two', !pane.hidden)
      if (!pane.hidden) begin(pane)
    })
  }

  keepPreview(pane) {
    let timer = 0
    let pause = PREVIEW_MS
    const draw = () => {
      timer = 0
      if (pane.hidden) return
      const began = performance.now()
      pane.replaceChildren(preview(this.text.toString()))
      pause = Math.max(PREVIEW_MS, PREVIEW_SHARE * (performance.now() - began))
    }
    draw()
    if (this.isPreviewing) return
    this.isPreviewing = true
    this.text.observe(() => { timer ||= setTimeout(draw, pause) })
  }

  closed(event) {
    this.asked = this.taken
    if (!event || event.code < REFUSED[0] || event.code >= REFUSED[1]) return
    this.provider.disconnect()
    this.taken = this.edits // for good: that it is lost is said
    this.view?.dispatch({ effects: this.writing.reconfigure(EditorState.readOnly.of(true)) })
    const told = host.isConnected && this.isOpen ? host.querySelector('.refused') : null
    if (!told) return
    told.querySelector('span').textContent = event.reason || `closed with code ${event.code}`
    told.hidden = false
  }

  /** Who leaves the page to log in loses what is only here. */
  loggedOut(event) {
    if (!this.hasUnsent) return
    event.preventDefault()
    this.isOut = true
    this.tell('disconnected')
  }

  tell(status) {
    if (status === 'connected') this.isOut = false
    const state = host.querySelector('.state')
    const words = {
      connected: 'Live',
      connecting: 'Connecting',
      disconnected: 'Not connected: what you write stays in this window, and is sent when the node is back',
    }
    const isOut = 'Not logged in: what you write stays in this window, and is sent when you log in in another'
    state.textContent = this.isOut ? isOut : words[status]
    state.classList.toggle('warn', this.isOut || status === 'disconnected')
  }

  tellWho() {
    const counts = new Map()
    for (const { name } of people(this.awareness)) counts.set(name, (counts.get(name) ?? 0) + 1)
    const names = [...counts].map(([name, count]) => count > 1 ? `${name} (${count} windows)` : name)
    host.querySelector('.who').textContent = names.length ? `Also here: ${names.join(', ')}` : ''
  }

  nameField() {
    const field = host.querySelector('input[name="name"]')
    field.value = kept(each => each.getItem(NAME)) ?? host.dataset.name
    const told = () => {
      const name = field.value.trim().slice(0, 40) || host.dataset.name
      const color = COLOURS[this.doc.clientID % COLOURS.length]
      this.awareness.setLocalStateField('user', { name, color, colorLight: `${color}40` })
    }
    field.addEventListener('input', () => {
      kept(each => each.setItem(NAME, field.value))
      told()
    })
    told()
  }
}

if (host && plain) new Editor()
