import DOMPurify from 'dompurify'
import { Marked } from 'marked'

const escapes: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}
const asText = (text: string) => text.replaceAll(/[&<>"']/g, (character) => escapes[character] ?? character)

/** Markup that a model writes itself is shown as the text that it is, and a picture as its description. */
const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: { html: ({ text }) => asText(text), image: ({ text }) => asText(text) },
})

/** What an answer may be made of. No images, styles, forms or frames: nothing that loads, asks or looks like the page. */
const allowed = {
  ALLOWED_TAGS:
    'a b blockquote br code del em h1 h2 h3 h4 h5 h6 hr i kbd li ol p pre s strong sub sup table tbody td th thead tr ul'.split(
      ' ',
    ),
  ALLOWED_ATTR: ['href', 'title', 'align', 'start'],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  RETURN_TRUSTED_TYPE: true,
}

DOMPurify.addHook('afterSanitizeAttributes', (node) => {
  if (node.tagName === 'A') {
    node.setAttribute('target', '_blank')
    node.setAttribute('rel', 'noopener noreferrer nofollow')
  }
})

/** Markup that is safe to show, whatever a model writes. */
export function renderMarkdown(text: string): { __html: string } {
  const html = marked.parse(text, { async: false })
  // Trusted Types: an object that the document takes where it refuses text.
  return { __html: DOMPurify.sanitize(html, allowed) as unknown as string }
}
