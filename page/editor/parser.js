// One parser for the colours of the editor and for its preview. What takes the time of a square of
// its length, or the depth of the stack, has bounds: anybody may have written the text.

import { Autolink, parser as commonmark, Strikethrough, Table, TaskList } from '@lezer/markdown'

const DEPTH = 20 // of blocks in blocks; deeper ones are paragraphs
const SIZE = 10_000 // of a line, and of a paragraph; larger ones are words alone

const isLarge = line => line.text.length > SIZE

const bounds = {
  parseBlock: [{
    name: 'Bound',
    before: 'LinkReference',
    parse(context, line) {
      if (context.depth <= DEPTH && !isLarge(line)) return false
      const [from, to] = [context.lineStart + line.pos, context.lineStart + line.text.length]
      context.addElement(context.elt('Paragraph', from, to))
      context.nextLine()
      return true
    },
    endLeaf: (_, line) => isLarge(line),
  }],
  parseInline: [{
    name: 'Bound',
    before: 'Escape',
    parse: context => context.text.length > SIZE ? context.end : -1,
  }],
}

export const parser = commonmark.configure([Table, TaskList, Strikethrough, Autolink, bounds])
