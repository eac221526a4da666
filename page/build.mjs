// Builds what browsers load of the page: `node page/build.mjs FOLDER`, with the packages of
// `page/package-lock.json` in `.page/node_modules`. The same sources give the same bytes.

import { build } from '../.page/node_modules/esbuild/lib/main.js'
import { readFile, readdir, writeFile, mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const HERE = dirname(fileURLToPath(import.meta.url))
const PACKAGES = join(HERE, '..', '.page', 'node_modules')
const OUT = process.argv[2] ?? join(HERE, '..', 'phextsync', 'web', 'static')

/** The packages that went into the bundles, by the paths of their files. */
function packagesOf(metafile) {
  const names = Object.keys(metafile.inputs)
    .map(path => path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)\//)?.[1])
    .filter(Boolean)
  return [...new Set(names)].sort()
}

async function licenceOf(name) {
  const folder = join(PACKAGES, name)
  const about = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'))
  const file = (await readdir(folder)).find(each => /^licen[cs]e/i.test(each))
  const text = file ? (await readFile(join(folder, file), 'utf8')).trim() : '(no text in the package)'
  return `${name} ${about.version} (${about.license})\n\n${text}\n`
}

const made = await build({
  absWorkingDir: join(HERE, '..'),
  entryPoints: (await readdir(join(HERE, 'entries'))).sort().map(name => join('page', 'entries', name)),
  bundle: true,
  format: 'esm',
  target: 'es2022',
  minify: true,
  legalComments: 'none',
  nodePaths: [PACKAGES],
  outdir: OUT,
  metafile: true,
  logLevel: 'warning',
})
await mkdir(OUT, { recursive: true })
const names = packagesOf(made.metafile)
const licences = await Promise.all(names.map(licenceOf))
const head = 'The scripts and styles in this folder contain these packages.\n'
await writeFile(join(OUT, 'LICENCES.txt'), [head, ...licences].join(`\n${'-'.repeat(72)}\n\n`))
