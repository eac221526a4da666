// What makes the pages live: each works without it. Parts with `data-live` follow the node, forms
// with `data-typed` answer as one types, and a few keys go where the hand would.

import { fetchPage, replace } from '../pages.js'

const LIVE_MS = 2000
const TYPED_MS = 120

function keepLive() {
  const told = document.getElementById('live')
  if (!document.querySelector('main [data-live]')) return
  let isAsking = false
  const follow = async () => {
    if (document.hidden || isAsking) return
    isAsking = true
    try {
      const page = await fetchPage(location.href)
      for (const part of document.querySelectorAll('[data-live]')) {
        if (!part.hasAttribute('data-paused')) replace(part, page.getElementById(part.id))
      }
      if (told.textContent) told.textContent = ''
    } catch {
      told.textContent = 'The node does not answer: what you see is old.'
    }
    isAsking = false
  }
  setInterval(follow, LIVE_MS)
  document.addEventListener('visibilitychange', follow)
}

function answerTyping(form) {
  const results = document.querySelector(form.dataset.typed)
  let timer = 0
  let asked = new AbortController()
  form.addEventListener('input', () => {
    clearTimeout(timer)
    timer = setTimeout(async () => {
      asked.abort()
      asked = new AbortController()
      const words = new URLSearchParams(new FormData(form))
      words.set('typed', '1')
      try {
        const page = await fetchPage(`${form.action}?${words}`, asked.signal)
        replace(results, page.querySelector(form.dataset.typed))
      } catch (error) {
        if (error.name !== 'AbortError') results.textContent = 'The node does not answer.'
      }
    }, TYPED_MS)
  })
}

function copyOnClick(button) {
  button.hidden = false
  button.addEventListener('click', async () => {
    const link = new URL(button.dataset.copy, location.href).href
    await navigator.clipboard.writeText(link)
    button.textContent = 'Copied'
  })
}

/** A slider goes through the versions, which the table has from the newest to the oldest. */
function slide(slider) {
  const input = slider.querySelector('input')
  const links = [...document.querySelectorAll('a[data-version]')].reverse()
  const place = slider.dataset.slider
  let asked = new AbortController()
  slider.hidden = false
  const chosen = links.findIndex(link => link.closest('tr').hasAttribute('aria-current'))
  if (chosen >= 0) input.value = chosen
  const tell = () => input.setAttribute('aria-valuetext', links[input.value].textContent)
  tell()
  input.addEventListener('input', async () => {
    asked.abort()
    asked = new AbortController()
    tell()
    try {
      const page = await fetchPage(links[input.value].href, asked.signal)
      replace(document.querySelector(place), page.querySelector(place))
      history.replaceState(null, '', links[input.value].href)
      for (const [number, link] of links.entries()) {
        const row = link.closest('tr')
        if (number === Number(input.value)) row.setAttribute('aria-current', 'true')
        else row.removeAttribute('aria-current')
      }
    } catch (error) {
      if (error.name !== 'AbortError') document.querySelector(place).textContent = 'The node does not answer.'
    }
  })
}

function isTyping(target) {
  return target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)
}

document.addEventListener('keydown', event => {
  const at = event.composedPath()[0]
  if (event.key !== '/' || event.ctrlKey || event.metaKey || event.altKey || isTyping(at)) return
  const search = document.getElementById('words')
  if (!search) return
  event.preventDefault()
  search.focus()
})
document.querySelectorAll('form[data-typed]').forEach(answerTyping)
document.querySelectorAll('button[data-copy]').forEach(copyOnClick)
document.querySelectorAll('[data-slider]').forEach(slide)
keepLive()
