// Clients of Yjs, driven over standard input: a command of JSON on each line, an answer on each line.
import { createInterface } from 'node:readline'
import * as Y from 'yjs'
import WebSocket from 'ws'
import { WebsocketProvider } from 'y-websocket'
import * as hocuspocus4 from '@hocuspocus/provider'
import * as hocuspocus3 from 'hocuspocus-provider-3'
import * as hocuspocus2 from 'hocuspocus-provider-2'

const versions = { hocuspocus: hocuspocus4, hocuspocus3, hocuspocus2 }
const clients = new Map()
const sockets = new Map()

class Client {
  constructor ({ kind, url, name, params, token, origin }) {
    this.doc = new Y.Doc()
    this.text = this.doc.getText('text')
    this.closed = null
    this.changed = []
    this.unsynced = 0
    if (kind in versions) this.openHocuspocus(versions[kind], url, name, token)
    else this.openWebsocket(url, name, params)
    this.doc.on('update', () => this.wake())
    this.provider.awareness.on('change', () => this.wake())
  }

  openWebsocket (url, name, params) {
    this.provider = new WebsocketProvider(url, name, this.doc, {
      WebSocketPolyfill: WebSocket, disableBc: true, params, maxBackoffTime: 200
    })
    this.provider.on('sync', () => this.wake())
    this.provider.on('closed', (event) => { this.closed = event; this.wake() })
  }

  openHocuspocus ({ HocuspocusProvider, HocuspocusProviderWebsocket }, url, name, token) {
    let socket = sockets.get(url)
    if (!(socket instanceof HocuspocusProviderWebsocket)) {
      socket = new HocuspocusProviderWebsocket({
        url, WebSocketPolyfill: WebSocket, delay: 50, minDelay: 50, maxDelay: 200
      })
      sockets.set(url, socket)
    }
    this.provider = new HocuspocusProvider({
      websocketProvider: socket, name, document: this.doc, token: token ?? '',
      onSynced: () => this.wake(),
      onAuthenticationFailed: ({ reason }) => { this.closed = { code: 4403, reason }; this.wake() },
      onClose: ({ event: { code, reason } }) => { // without a reason it is the client's own doing
        if (reason) this.closed ??= { code, reason }
        this.wake()
      }
    })
    this.unsynced = this.provider.unsyncedChanges
    this.provider.on('unsyncedChanges', (told) => { // version 2 tells the number alone
      this.unsynced = told.number ?? told
      this.wake()
    })
    this.provider.attach?.() // version 2 does it by itself
  }

  wake () { for (const call of this.changed.splice(0)) call() }

  async until (isSo) { while (!isSo()) await new Promise((resolve) => this.changed.push(resolve)) }

  edit (at, remove, insert) {
    this.doc.transact(() => {
      if (remove) this.text.delete(at, remove)
      if (insert) this.text.insert(at, insert)
    })
  }

  states () {
    return [...this.provider.awareness.getStates()].map(([id, state]) => [id, state])
      .filter(([id]) => id !== this.doc.clientID)
  }
}

function draws (seed) { // mulberry32
  return (below) => {
    seed = (seed + 0x6D2B79F5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % below
  }
}

function whole (text, at) { // no place between the halves of a character
  const code = text.charCodeAt(at - 1)
  return Math.min(text.length, code >= 0xD800 && code < 0xDC00 ? at + 1 : at)
}

const pieces = ['word ', 'x', '\n', '\r\n', 'é', '😀', 'a longer piece of text ', '-']

const commands = {
  open: (c, command) => { clients.set(command.id, new Client(command)) },
  synced: (c) => c.until(() => c.provider.synced),
  edit: (c, { at, remove, insert }) => c.edit(at, remove ?? 0, insert ?? ''),
  format: (c, { at, length, attributes }) => c.text.format(at, length, attributes),
  embed: (c, { at }) => c.text.insertEmbed(at, { image: 'x' }),
  text: (c) => c.text.toString(),
  wait: (c, { text }) => c.until(() => c.text.toString() === text),
  has: (c, { piece }) => c.until(() => c.text.toString().includes(piece)),
  state: (c, { state }) => c.provider.awareness.setLocalState(state),
  states: (c) => c.states(),
  sees: (c, { count }) => c.until(() => c.states().length === count),
  closed: async (c) => { await c.until(() => c.closed); return c.closed },
  saved: (c) => c.until(() => c.unsynced === 0),
  unsaved: (c) => c.unsynced,
  id: (c) => c.doc.clientID,
  offline: (c) => c.provider.disconnect(),
  online: (c) => c.provider.connect(),
  destroy: (c, { id }) => { c.provider.destroy(); clients.delete(id) },
  random: async (c, { seed, count }) => {
    const draw = draws(seed)
    for (let i = 0; i < count; i++) {
      const text = c.text.toString()
      if (text.length && draw(3) === 0) {
        const at = whole(text, draw(text.length))
        c.edit(at, whole(text, at + 1 + draw(6)) - at, '')
      } else {
        c.edit(whole(text, draw(text.length + 1)), 0, pieces[draw(pieces.length)])
      }
      if (i % 8 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
  }
}

async function answer (line) {
  const command = JSON.parse(line)
  const reply = { number: command.number, value: null }
  try {
    reply.value = (await commands[command.do](clients.get(command.id), command)) ?? null
  } catch (error) {
    reply.error = String(error)
  }
  process.stdout.write(JSON.stringify(reply) + '\n')
}

createInterface({ input: process.stdin }).on('line', answer).on('close', () => process.exit(0))
