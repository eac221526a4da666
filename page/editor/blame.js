// Who wrote which line, in the margin: what the page of it says, beside the lines that it is about.

import { Compartment, StateEffect } from '@codemirror/state'
import { EditorView, gutter, GutterMarker } from '@codemirror/view'
import { fetchPage } from '../pages.js'

const AGAIN_MS = 1500

class Writer extends GutterMarker {
  constructor(who, when) {
    super()
    this.who = who
    this.when = when
  }

  eq(other) { return other.who === this.who && other.when === this.when }

  toDOM() {
    const shown = document.createElement('span')
    shown.textContent = this.who
    shown.title = this.when
    return shown
  }
}

/** Return what shows the margin of a view, and hides it; `address` is the page to read. */
export function blame(view, address) {
  const place = new Compartment()
  let rows = []
  let isOn = false
  let timer = 0
  const margin = () => gutter({
    class: 'who-gutter',
    lineMarker: (view, line) => {
      const row = rows[view.state.doc.lineAt(line.from).number - 1]
      return row?.who ? new Writer(row.who, row.when) : null
    },
  })
  const draw = () => view.dispatch({ effects: place.reconfigure(isOn ? margin() : []) })
  const ask = async () => {
    timer = 0
    const page = await fetchPage(address).catch(() => null)
    if (!page || !isOn) return
    rows = [...page.querySelectorAll('.blame tbody tr')].map(row => ({
      who: row.cells[0].textContent.trim(), when: row.cells[1].textContent.trim(),
    }))
    draw()
  }
  const again = EditorView.updateListener.of(update => {
    if (isOn && update.docChanged) timer ||= setTimeout(ask, AGAIN_MS)
  })
  view.dispatch({ effects: StateEffect.appendConfig.of([place.of([]), again]) })
  return {
    show(on) {
      isOn = on
      if (on) ask()
      else draw()
    },
  }
}
