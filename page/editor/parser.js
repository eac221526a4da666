// One parser for the colours of the editor and for its preview.

import { Autolink, parser as commonmark, Strikethrough, Table, TaskList } from '@lezer/markdown'

export const parser = commonmark.configure([Table, TaskList, Strikethrough, Autolink])
