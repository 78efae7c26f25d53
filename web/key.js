// Asks for the API key; opened by its button and whenever the server answers 401.
import { keyAsked } from "./api.js";
import { html, useEffect, useRef } from "./html.js";
import { t } from "./i18n.js";
import { apiKey } from "./preferences.js";
import { server } from "./server.js";

export function KeyDialog() {
  const dialog = useRef(null);
  useEffect(() => {
    if (keyAsked.value) dialog.current.showModal();
  }, [keyAsked.value]);

  const save = (event) => (apiKey.value = new FormData(event.target).get("key").trim());
  const refused = apiKey.value && server.value.state === "locked";
  return html`
    <dialog ref=${dialog} aria-labelledby="key-title" onClose=${() => (keyAsked.value = false)}>
      <form method="dialog" onSubmit=${save}>
        <h2 id="key-title">${t("key.title")}</h2>
        <p class="muted">${t("key.why")}</p>
        ${refused && html`<p class="notice error" role="alert">${t("key.refused")}</p>`}
        <input name="key" type="password" autocomplete="off" aria-label=${t("key.title")} defaultValue=${apiKey.value} />
        <div class="actions">
          <button class="button" type="button" onClick=${() => dialog.current.close()}>${t("cancel")}</button>
          <button class="button primary">${t("save")}</button>
        </div>
      </form>
    </dialog>
  `;
}
