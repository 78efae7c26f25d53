// What went wrong, in the reader's words; the server's sentence follows where it says more.
import { html } from "./html.js";
import { t } from "./i18n.js";
import { Icon } from "./icons.js";

const KNOWN = { 0: "error.away", 401: "error.key", 429: "error.busy", 503: "error.notready" };

export const Failure = ({ error }) => html`
  <div class="notice error" role="alert">
    <p><${Icon} name="warning" /> ${t(KNOWN[error.status] ?? "error.other")}</p>
    ${!KNOWN[error.status] && html`<p class="muted">${error.message}</p>`}
  </div>
`;
