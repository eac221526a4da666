// Figures over time, beside the table that says the last of them.

import uPlot from 'uplot'
import 'uplot/dist/uPlot.min.css'

const HEIGHT = 150
const charts = document.getElementById('charts')
const figures = [...charts.querySelectorAll('[data-figure]')]
const dark = matchMedia('(prefers-color-scheme: dark)')
let drawn = []
let rows = []

const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim()

const clock = time => new Date(1000 * time).toLocaleTimeString([], { hourCycle: 'h23' })

/** At least a minute, and the last one where there is nothing yet. */
function span(_, low, high) {
  const end = high ?? Date.now() / 1000
  return [Math.min(low ?? end, end - 60), end]
}

function axis(more) {
  return { stroke: colour('--quiet'), grid: { stroke: colour('--line'), width: 1 }, ticks: { stroke: colour('--line') }, ...more }
}

function columns(figure) {
  return [rows.map(row => row.time_s), rows.map(row => row[figure.dataset.figure])]
}

function draw() {
  for (const chart of drawn) chart.destroy()
  for (const figure of figures) figure.hidden = false // all, before any is measured
  drawn = figures.map(figure => {
    return new uPlot({
      width: figure.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false },
      scales: { x: { range: span }, y: { range: (_, low, high) => [0, Math.max(1, (high ?? 0) * 1.1)] } },
      axes: [axis({ space: 80, values: (_, times) => times.map(clock) }), axis({ size: 56 })],
      series: [{}, { stroke: colour('--link'), width: 2, spanGaps: true, points: { size: 4 } }],
    }, columns(figure), figure)
  })
}

async function follow() {
  if (document.hidden) return
  const answer = await fetch('/figures.json').catch(() => null)
  if (!answer?.ok) return
  rows = await answer.json()
  if (!drawn.length) draw()
  else drawn.forEach((chart, number) => chart.setData(columns(figures[number])))
}

dark.addEventListener('change', () => drawn.length && draw())
addEventListener('resize', () => {
  drawn.forEach((chart, number) => chart.setSize({ width: figures[number].clientWidth, height: HEIGHT }))
})
document.addEventListener('visibilitychange', follow)
setInterval(follow, 1000 * Number(charts.dataset.interval))
follow()
