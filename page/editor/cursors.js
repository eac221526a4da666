// Cursors of others, as y-codemirror.next tells of them: `user` with a name, `cursor` with relative
// positions. Its own way to draw them needs styles in markup, and takes colours that others chose.

import { Annotation, RangeSet } from '@codemirror/state'
import { Decoration, EditorView, ViewPlugin, WidgetType } from '@codemirror/view'
import { ySyncFacet } from 'y-codemirror.next'

export const COLOURS = ['#0b6e4f', '#a4243b', '#5f3dc4', '#9a5b00', '#1864ab', '#a61e4d', '#2b6a00', '#495057']
const NAME_MAX = 40

const changed = Annotation.define()

function nameOf(state) {
  const name = state.user?.name
  return typeof name === 'string' && name.trim() ? name.slice(0, NAME_MAX) : 'Somebody'
}

/** Those who are here besides this window, with their cursors, if they have any. */
export function people(awareness) {
  return [...awareness.getStates()]
    .filter(([client]) => client !== awareness.clientID)
    .map(([client, state]) => ({ client, name: nameOf(state), cursor: state.cursor }))
}

class Caret extends WidgetType {
  constructor(name, number) {
    super()
    this.name = name
    this.number = number
  }

  toDOM() {
    const caret = document.createElement('span')
    caret.className = `caret person-${this.number}`
    caret.dataset.name = this.name // drawn by the style: it is no part of the text
    return caret
  }

  eq(other) { return other.name === this.name && other.number === this.number }
  get estimatedHeight() { return -1 }
  ignoreEvent() { return true }
}

function absolute(position, places) {
  try {
    return places.fromYPos(position).pos
  } catch { // others may say anything
    return null
  }
}

function decorations(state, awareness) {
  const [places, { length }] = [state.facet(ySyncFacet), state.doc]
  const drawn = []
  for (const { client, name, cursor } of people(awareness)) {
    if (!cursor?.anchor || !cursor?.head) continue
    const anchor = absolute(cursor.anchor, places)
    const head = absolute(cursor.head, places)
    if (anchor === null || head === null || Math.max(anchor, head) > length) continue
    const number = client % COLOURS.length
    const [from, to] = anchor < head ? [anchor, head] : [head, anchor]
    if (from < to) drawn.push(Decoration.mark({ class: `chosen person-${number}` }).range(from, to))
    drawn.push(Decoration.widget({ widget: new Caret(name, number), side: head > anchor ? -1 : 1 }).range(head))
  }
  return RangeSet.of(drawn, true)
}

const look = EditorView.baseTheme({
  '.caret': { position: 'relative', borderLeft: '2px solid', marginInline: '-1px' },
  '.caret::after': {
    content: 'attr(data-name)',
    position: 'absolute', bottom: '100%', left: '-2px', padding: '0 .3em', borderRadius: '3px 3px 3px 0',
    font: '600 .7rem/1.4 system-ui, sans-serif', color: '#ffffff', whiteSpace: 'nowrap', pointerEvents: 'none',
    maxWidth: '12rem', overflow: 'hidden', textOverflow: 'ellipsis', zIndex: 3,
  },
  ...Object.fromEntries(COLOURS.flatMap((colour, number) => [
    [`.caret.person-${number}`, { borderColor: colour }],
    [`.caret.person-${number}::after`, { backgroundColor: colour }],
    [`.chosen.person-${number}`, { backgroundColor: `${colour}50` }],
  ])),
})

/** Draw the cursors of others, and tell them of this one. */
export function cursors(awareness) {
  const plugin = ViewPlugin.fromClass(class {
    constructor(view) {
      this.decorations = decorations(view.state, awareness)
      this.listener = ({ added, updated, removed }) => {
        const clients = [...added, ...updated, ...removed]
        if (clients.some(client => client !== awareness.clientID)) {
          view.dispatch({ annotations: changed.of(true) })
        }
      }
      awareness.on('change', this.listener)
    }

    update(update) {
      this.tell(update)
      if (update.docChanged || update.transactions.some(each => each.annotation(changed))) {
        this.decorations = decorations(update.state, awareness)
      }
    }

    tell({ view, state }) {
      const { anchor, head } = state.selection.main
      const places = state.facet(ySyncFacet)
      const cursor = view.hasFocus ? { anchor: places.toYPos(anchor), head: places.toYPos(head) } : null
      const told = awareness.getLocalState()?.cursor ?? null
      if (JSON.stringify(told) !== JSON.stringify(cursor)) awareness.setLocalStateField('cursor', cursor)
    }

    destroy() { awareness.off('change', this.listener) }
  }, { decorations: each => each.decorations })
  return [look, plugin]
}
