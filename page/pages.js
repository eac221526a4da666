// Pages of this node, and parts of them that take the place of others.

/** Put what a new page has in the place of a part of this one; what has the focus keeps it. */
export function replace(part, fresh) {
  if (!fresh || part.innerHTML === fresh.innerHTML) return
  const focused = part.contains(document.activeElement) ? document.activeElement : null
  const open = [...part.querySelectorAll('details[open]')].map(each => each.id)
  part.replaceChildren(...fresh.childNodes)
  for (const id of open) document.getElementById(id)?.setAttribute('open', '')
  if (!focused) return
  const [attribute, value] = focused.id ? ['id', focused.id] : ['href', focused.getAttribute('href')]
  const same = [...part.querySelectorAll(`[${attribute}]`)]
  same.find(each => each.getAttribute(attribute) === value)?.focus()
}

/** Go where one logs in, unless somebody who hears of it has something to lose. */
function logIn() {
  if (dispatchEvent(new Event('loggedout', { cancelable: true }))) location.reload()
}

/** Fetch a page of this node; null when the node is not there, or wants to be asked elsewhere. */
export async function fetchPage(address, signal) {
  const answer = await fetch(address, { headers: { Accept: 'text/html' }, signal })
  if (answer.redirected && new URL(answer.url).pathname === '/login') logIn()
  return new DOMParser().parseFromString(await answer.text(), 'text/html')
}
