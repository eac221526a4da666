// How the editor looks: colours are those of the page, which follow light and dark.

import { defineLanguageFacet, HighlightStyle, Language, syntaxHighlighting } from '@codemirror/language'
import { EditorView } from '@codemirror/view'
import { tags } from '@lezer/highlight'
import { parser } from './parser.js'

export const markdown = [
  new Language(defineLanguageFacet({}), parser, [], 'markdown').extension,
  syntaxHighlighting(HighlightStyle.define([
    { tag: tags.heading, fontWeight: '700' },
    { tag: tags.strong, fontWeight: '700' },
    { tag: tags.emphasis, fontStyle: 'italic' },
    { tag: tags.strikethrough, textDecoration: 'line-through' },
    { tag: [tags.link, tags.url], color: 'var(--link)' },
    { tag: [tags.monospace, tags.processingInstruction, tags.meta, tags.quote], color: 'var(--quiet)' },
  ])),
]

export const look = EditorView.theme({
  '&': { color: 'var(--text)', backgroundColor: 'var(--ground)', border: '1px solid var(--quiet)', borderRadius: '6px' },
  '&.cm-focused': { outline: '3px solid var(--link)', outlineOffset: '1px' },
  '.cm-scroller': { font: '.95rem/1.5 ui-monospace, "DejaVu Sans Mono", monospace', minHeight: '22rem' },
  '.cm-content': { padding: '1.1rem 0', caretColor: 'var(--text)' },
  '.cm-gutters': { backgroundColor: 'var(--raised)', color: 'var(--quiet)', border: '0', borderRight: '1px solid var(--line)' },
  '.cm-cursor': { borderLeftColor: 'var(--text)', borderLeftWidth: '2px' },
  '&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground': {
    backgroundColor: 'var(--chosen)',
  },
  '.cm-panels': { backgroundColor: 'var(--raised)', color: 'var(--text)', borderColor: 'var(--line)' },
  '.cm-textfield, .cm-button': {
    background: 'var(--ground)', color: 'var(--text)', border: '1px solid var(--quiet)', borderRadius: '4px',
  },
  '.cm-searchMatch': { backgroundColor: 'var(--mark)', color: 'var(--on-mark)' },
  '.who-gutter': { fontFamily: 'system-ui, sans-serif', fontSize: '.8rem' },
  '.who-gutter .cm-gutterElement': { padding: '0 .5rem', maxWidth: '9rem', overflow: 'hidden', textOverflow: 'ellipsis', whiteSpace: 'nowrap' },
})
