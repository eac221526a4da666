// What keeps the view and the text of a scroll the same. The view has one character for each end of a
// line. The text may have two, CR LF, as files of Windows have them: offsets differ then, and what is
// typed as an end of a line becomes what the first one of the text is.

import { ViewPlugin } from '@codemirror/view'
import { yCollab, ySyncAnnotation, YSyncConfig, ySyncFacet } from 'y-codemirror.next'

function shownOf(text) {
  return text.replace(/\r\n?/g, '\n')
}

/** The offset in a text of an offset in what is shown of it. */
function inText(text, offset) {
  let found = offset
  for (let at = text.indexOf('\r\n'); at >= 0 && at < found; at = text.indexOf('\r\n', at + 2)) found++
  return found
}

/** The offset in what is shown of a text of an offset in it. */
function inView(text, offset) {
  let found = offset
  for (let at = text.indexOf('\r\n'); at >= 0 && at + 1 < offset; at = text.indexOf('\r\n', at + 2)) found--
  return found
}

/** The one change that makes a text of another. */
function change(before, after) {
  let [from, to, end] = [0, before.length, after.length]
  while (from < to && from < end && before[from] === after[from]) from++
  while (to > from && end > from && before[to - 1] === after[end - 1]) {
    to--
    end--
  }
  return { from, to, insert: after.slice(from, end) }
}

function changesOf(delta) {
  const changes = []
  let at = 0
  for (const { insert, delete: deleted = 0, retain = 0 } of delta) {
    if (insert !== undefined) changes.push({ from: at, insert })
    else if (deleted) changes.push({ from: at, to: at + deleted })
    at += deleted + retain
  }
  return changes
}

/** Places in the text, by offsets in the view. */
class Places extends YSyncConfig {
  constructor(text) {
    super(text, null)
    this.hasReturns = text.toString().includes('\r')
  }

  toYPos(offset, assoc) {
    return super.toYPos(this.hasReturns ? inText(this.ytext.toString(), offset) : offset, assoc)
  }

  fromYPos(position) {
    const { pos, assoc } = super.fromYPos(position)
    return { pos: this.hasReturns ? inView(this.ytext.toString(), pos) : pos, assoc }
  }
}

const sync = ViewPlugin.fromClass(class {
  constructor(view) {
    this.view = view
    this.places = view.state.facet(ySyncFacet)
    this.places.ytext.observe(({ delta }, { origin }) => origin === this.places || this.hear(delta))
  }

  hear(delta) {
    this.places.hasReturns ||= delta.some(({ insert }) => insert?.includes('\r'))
    if (this.places.hasReturns) this.draw()
    else this.show(changesOf(delta))
  }

  /** Show what the text is now. */
  draw() {
    const shown = shownOf(this.places.ytext.toString())
    const before = this.view.state.doc.toString()
    if (shown !== before) this.show(change(before, shown))
  }

  show(changes) {
    this.view.dispatch({ changes, annotations: ySyncAnnotation.of(this.places) })
  }

  update({ docChanged, transactions, changes }) {
    if (!docChanged || transactions[0]?.annotation(ySyncAnnotation) === this.places) return
    const { ytext, hasReturns } = this.places
    const before = hasReturns ? ytext.toString() : ''
    const end = /\r?\n/.exec(before)?.[0] ?? '\n'
    const place = offset => hasReturns ? inText(before, offset) : offset
    let shift = 0
    ytext.doc.transact(() => changes.iterChanges((start, stop, _start, _stop, inserted) => {
      const [from, size] = [place(start), place(stop) - place(start)]
      const words = inserted.sliceString(0, inserted.length, end)
      if (size) ytext.delete(from + shift, size)
      if (words) ytext.insert(from + shift, words)
      shift += words.length - size
    }), this.places)
    // What was apart may be CR LF by now: a view cannot be changed while it is told of a change.
    if (hasReturns) queueMicrotask(() => this.draw())
  }
})

/** Keep a view and a text the same, with what the person did there to be undone. */
export function binding(text, undoManager) {
  const [, , ...undoing] = yCollab(text, null, { undoManager }) // without its places and its `sync`
  return [ySyncFacet.of(new Places(text)), sync, ...undoing]
}
