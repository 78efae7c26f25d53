// The page: header, the view that the address names, the side panel beside it.
import { keyAsked } from "./api.js";
import { Chat } from "./chat.js";
import { Gallery } from "./gallery.js";
import { html, render, signal, useEffect } from "./html.js";
import { t } from "./i18n.js";
import { Icon, Logo } from "./icons.js";
import { KeyDialog } from "./key.js";
import { Model } from "./model.js";
import { covering } from "./opened.js";
import { language, theme } from "./preferences.js";
import { SidePanel } from "./side.js";
import { ServerStatus, watchServer } from "./server.js";
import { dark } from "./theme.js";

const here = signal(location.hash);
addEventListener("hashchange", () => (here.value = location.hash));

const Nav = () => html`
  <nav class="nav" aria-label=${t("nav.label")}>
    ${[["#/", "nav.chat"], ["#/model", "nav.model"], ["#/labs", "nav.labs"]].map(([address, name]) => html`
      <a href=${address} aria-current=${place() === address ? "page" : null}>${t(name)}</a>
    `)}
  </nav>
`;

const PLACES = { "#/labs": Gallery, "#/model": Model, "#/": Chat };

const place = () => Object.keys(PLACES).find((address) => here.value.startsWith(address)) ?? "#/";

const Tools = () => html`
  <div class="tools">
    <${ServerStatus} />
    <button class="button quiet iconic" title=${t("key.title")} aria-label=${t("key.title")} onClick=${() => (keyAsked.value = true)}>
      <${Icon} name="key" />
    </button>
    <button class="button quiet iconic" title=${t("theme.switch")} aria-label=${t("theme.switch")}
      onClick=${() => (theme.value = dark.value ? "light" : "dark")}>
      <${Icon} name=${dark.value ? "sun" : "moon"} />
    </button>
    <button class="button quiet" id="language" lang=${language.value === "zh" ? "en" : "zh-CN"}
      onClick=${() => (language.value = language.value === "zh" ? "en" : "zh")}>
      ${language.value === "zh" ? "English" : "中文"}
    </button>
  </div>
`;

const Page = () => {
  useEffect(watchServer, []);
  const chatting = place() === "#/";
  const covered = covering.value && chatting;
  return html`
    <header class="header" inert=${covered}>
      <a class="brand" href="#/"><${Logo} /><span>Cutaway</span></a>
      <${Nav} />
      <${Tools} />
    </header>
    <div class="body">
      <main class="main" inert=${covered}><${PLACES[place()]} /></main>
      ${chatting && html`<${SidePanel} />`}
    </div>
    <${KeyDialog} />
  `;
};

render(html`<${Page} />`, document.body);
