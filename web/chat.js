// The view of the conversation: toolbar, turns, composer.
import { ask, draft, startOver, stop, streaming, turns } from "./conversation.js";
import { html, useLayoutEffect, useRef } from "./html.js";
import { t } from "./i18n.js";
import { Icon, Logo } from "./icons.js";
import { openSide, side } from "./opened.js";
import { grounded, language, model, showTokens } from "./preferences.js";
import { hasDocuments, server } from "./server.js";
import { Turn } from "./turn.js";

export const Chat = () => html`
  <div class="chat">
    <${Toolbar} />
    <${Turns} />
    <div class="column">
      <${Composer} />
      <p class="hint">${t("chat.hint")}</p>
    </div>
  </div>
`;

const Toolbar = () => html`
  <div class="toolbar column">
    <select class=${server.value.models.length > 1 ? "" : "only"} aria-label=${t("chat.model")} value=${model.value} onChange=${(event) => (model.value = event.target.value)}>
      ${server.value.models.map(({ id }) => html`<option key=${id} value=${id}>${id}</option>`)}
    </select>
    <${Switch} id="grounded" icon="book" name="chat.documents" on=${grounded} lacking=${!hasDocuments.value} />
    <${Switch} id="tokens" icon="tokens" name="chat.tokens" on=${showTokens} />
    <div class="end">
      <button class="button quiet" id="settings" title=${t("side.settings")} aria-label=${t("side.settings")}
        aria-expanded=${side.value?.view === "settings"} onClick=${() => openSide({ view: "settings" })}>
        <${Icon} name="sliders" /><span class="label">${t("side.settings")}</span>
      </button>
      <button class="button quiet" id="new-chat" title=${t("chat.new")} aria-label=${t("chat.new")} onClick=${startOver}>
        <${Icon} name="plus" /><span class="label">${t("chat.new")}</span>
      </button>
    </div>
  </div>
`;

const Switch = ({ id, icon, name, on, lacking = false }) => html`
  <button class="button" id=${id} disabled=${lacking} aria-pressed=${on.value && !lacking}
    title=${t(lacking ? `${name}.lacking` : `${name}.help`)} aria-label=${t(name)}
    onClick=${() => (on.value = !on.value)}>
    <${Icon} name=${icon} /><span class="label">${t(name)}</span>
  </button>
`;

function Turns() {
  const box = useRef(null);
  const last = turns.value.at(-1)?.answer.value;
  // Follow the reply while it grows, unless the reader has scrolled up.
  const following = useRef(true);
  useLayoutEffect(() => {
    if (following.current) box.current.scrollTop = box.current.scrollHeight;
  }, [last?.text, last?.state, turns.value.length]);
  const onScroll = ({ target }) => (following.current = target.scrollHeight - target.scrollTop - target.clientHeight < 80);

  return html`
    <div class="turns" ref=${box} onScroll=${onScroll} role="log" aria-label=${t("chat.log")}>
      <div class="column">
        ${turns.value.length === 0 && html`<${Welcome} />`}
        ${turns.value.map((turn, i) => html`<${Turn} key=${i} turn=${turn} index=${i} />`)}
      </div>
    </div>
  `;
}

const Welcome = () => html`
  <section class="welcome">
    <${Logo} />
    <h1>${t("welcome.title")}</h1>
    <p>${t("welcome.text")}</p>
    <ul class="examples">
      ${["example.temperature", "example.attention", "example.scaling", "example.outside"].map((name) => html`
        <li key=${name}><button onClick=${() => send(t(name))}>${t(name)}</button></li>
      `)}
    </ul>
  </section>
`;

function send(text) {
  if (!text.trim() || streaming.value || server.value.state === "waiting") return;
  draft.value = "";
  ask(text.trim());
}

function onKeyDown(event) {
  // Enter also ends the choice of a Chinese character: that one is not ours. Safari tells it by the code 229 alone.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  send(draft.value);
}

function Composer() {
  const waiting = server.value.state === "waiting";
  return html`
    ${server.value.state !== "ready" && html`
      <p class="notice caution" role="status">${t(`server.${server.value.state}.long`)}</p>
    `}
    <form class="composer" onSubmit=${(event) => (event.preventDefault(), send(draft.value))}>
      <textarea id="question" rows="1" placeholder=${t("chat.ask")} aria-label=${t("chat.ask")} lang=${language.value}
        value=${draft.value} onInput=${(event) => (draft.value = event.target.value)} onKeyDown=${onKeyDown}></textarea>
      ${streaming.value
        ? html`<button class="button stop" id="stop" type="button" aria-label=${t("chat.stop")} title=${t("chat.stop")} onClick=${stop}>
            <${Icon} name="stop" /></button>`
        : html`<button class="button primary" id="send" aria-label=${t("chat.send")} title=${t("chat.send")}
            disabled=${!draft.value.trim() || waiting}><${Icon} name="send" /></button>`}
    </form>
  `;
}
