// What went wrong and what to do, in the reader's words; the server's sentence follows where it says more.
import { html } from "./html.js";
import { t } from "./i18n.js";
import { Icon } from "./icons.js";

const BY_CODE = { context_length_exceeded: "error.context" };
const BY_STATUS = { 0: "error.away", 401: "error.key", 413: "error.context", 429: "error.busy", 503: "error.notready" };

/**
 * @param again called by the button that tries once more.
 * @param edit  called by the button that lets the question be changed, where the same one would fail again.
 */
export function Failure({ error, again = null, edit = null }) {
  const known = BY_CODE[error.code] ?? BY_STATUS[error.status];
  return html`
    <div class="notice error" role="alert">
      <p><${Icon} name="warning" /> ${t(known ?? "error.other", { wait: error.wait ?? 2 })}</p>
      ${!known && html`<p class="muted">${error.message}</p>`}
      ${again && known !== "error.context" && html`<button class="button again" onClick=${again}>${t("error.again")}</button>`}
      ${edit && known === "error.context" && html`<button class="button edit" onClick=${edit}>${t("error.edit")}</button>`}
    </div>
  `;
}
