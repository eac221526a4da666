// Markdown as elements, from the tree of the parser. Whatever a text has becomes text nodes: there
// is no way from it to markup, and nothing is loaded for it. Images are links to what they show.

import { parser } from './parser.js'

const BLOCKS = {
  Paragraph: 'p', Blockquote: 'blockquote', BulletList: 'ul', OrderedList: 'ol', ListItem: 'li', Task: 'span',
  ATXHeading1: 'h3', ATXHeading2: 'h4', ATXHeading3: 'h5', ATXHeading4: 'h6', ATXHeading5: 'h6', ATXHeading6: 'h6',
  SetextHeading1: 'h3', SetextHeading2: 'h4',
  Emphasis: 'em', StrongEmphasis: 'strong', Strikethrough: 's',
}
const MARKS = /^(HeaderMark|QuoteMark|ListMark|EmphasisMark|StrikethroughMark|CodeMark|CodeInfo|LinkMark|TableDelimiter)$/
const ENTITIES = { '&amp;': '&', '&lt;': '<', '&gt;': '>', '&quot;': '"', '&nbsp;': '\u00a0' }
const SAFE = /^(https?:|mailto:)/i

class Preview {
  constructor(source) { this.source = source }

  text(node) { return this.source.slice(node.from, node.to) }

  /** Put what lies in a node into an element: its children, and the text between them. */
  fill(element, node, from = node.from, to = node.to) {
    let at = from
    for (let child = node.firstChild; child; child = child.nextSibling) {
      if (child.from < at || child.to > to) continue
      if (at < child.from) element.append(this.source.slice(at, child.from))
      const made = this.make(child)
      if (made !== null) element.append(made)
      at = child.to
    }
    if (at < to) element.append(this.source.slice(at, to))
    return element
  }

  /** Put only the children of a node into an element: what lies between blocks means nothing. */
  blocks(element, node) {
    for (let child = node.firstChild; child; child = child.nextSibling) {
      const made = this.make(child)
      if (made !== null) element.append(made)
    }
    return element
  }

  make(node) {
    if (MARKS.test(node.name)) return null
    const tag = BLOCKS[node.name]
    if (/^(Blockquote|BulletList|OrderedList|ListItem)$/.test(node.name)) {
      return this.blocks(document.createElement(tag), node)
    }
    if (tag) return this.fill(document.createElement(tag), node)
    switch (node.name) {
      case 'FencedCode': case 'CodeBlock': return this.code(node)
      case 'InlineCode': return this.fill(document.createElement('code'), node)
      case 'HorizontalRule': return document.createElement('hr')
      case 'HardBreak': return document.createElement('br')
      case 'Escape': return this.text(node).slice(1)
      case 'Entity': return ENTITIES[this.text(node)] ?? this.text(node)
      case 'TaskMarker': return /x/i.test(this.text(node)) ? '\u2611' : '\u2610'
      case 'Link': case 'Image': return this.link(node)
      case 'URL': return this.anchor(this.text(node), this.text(node))
      case 'Autolink': return this.blocks(document.createElement('span'), node)
      case 'Table': return this.table(node)
      case 'LinkReference': return null
      case 'HTMLBlock': case 'CommentBlock': case 'ProcessingInstructionBlock': {
        const written = document.createElement('p')
        written.textContent = this.text(node)
        return written
      }
      default: return this.text(node) // markup among it, as it is written
    }
  }

  code(node) {
    const block = document.createElement('pre')
    const lines = node.getChildren('CodeText').map(each => this.text(each))
    block.append(lines.join(node.name === 'CodeBlock' ? '\n' : ''))
    return block
  }

  link(node) {
    const marks = node.getChildren('LinkMark')
    const address = node.getChild('URL')
    const shown = document.createElement('span')
    if (marks.length > 1) this.fill(shown, node, marks[0].to, marks[1].from)
    return this.anchor(address ? this.text(address) : '', shown)
  }

  anchor(address, shown) {
    const whole = /^[^\s:/]+@/.test(address) ? `mailto:${address}` : address.startsWith('www.') ? `https://${address}` : address
    if (!SAFE.test(whole)) return shown
    const link = document.createElement('a')
    link.href = whole
    link.rel = 'noopener noreferrer nofollow'
    link.append(shown)
    return link
  }

  table(node) {
    const table = document.createElement('table')
    for (const row of [...node.getChildren('TableHeader'), ...node.getChildren('TableRow')]) {
      const line = table.appendChild(document.createElement('tr'))
      for (const cell of row.getChildren('TableCell')) {
        this.fill(line.appendChild(document.createElement(row.name === 'TableHeader' ? 'th' : 'td')), cell)
      }
    }
    return table
  }
}

/** Return the elements of a text in Markdown. */
export function preview(source) {
  const made = new Preview(source)
  return made.blocks(document.createDocumentFragment(), parser.parse(source).topNode)
}
