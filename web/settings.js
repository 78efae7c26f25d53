// Sampling settings. An empty field leaves the choice to the server.
import { html } from "./html.js";
import { t } from "./i18n.js";
import { sampling } from "./preferences.js";

const FIELDS = [
  { name: "temperature", min: 0, max: 5, step: 0.05 },
  { name: "top_k", min: 0, max: 1000, step: 1 },
  { name: "top_p", min: 0.01, max: 1, step: 0.01 },
  { name: "min_p", min: 0, max: 1, step: 0.01 },
  { name: "repetition_penalty", min: 0.1, max: 3, step: 0.05 },
  { name: "max_tokens", min: 1, max: 4096, step: 1 },
  { name: "seed", min: 0, max: 2 ** 31 - 1, step: 1 },
];

function change(name, value) {
  const { [name]: _, ...others } = sampling.value;
  sampling.value = value === "" || Number.isNaN(value) ? others : { ...others, [name]: value };
}

export const Settings = () => html`
  <div class="settings">
    <div class="setting">
      <label for="set-system">${t("set.system")}</label>
      <textarea id="set-system" rows="3" value=${sampling.value.system ?? ""} placeholder=${t("set.systemhint")}
        onInput=${(event) => change("system", event.target.value)}></textarea>
    </div>
    ${FIELDS.map(({ name, min, max, step }) => html`
      <div class="setting" key=${name}>
        <label for="set-${name}">${t(`set.${name}`)}</label>
        <input id="set-${name}" type="number" min=${min} max=${max} step=${step} placeholder=${t("set.default")}
          value=${sampling.value[name] ?? ""} onInput=${(event) => change(name, event.target.valueAsNumber)} />
        <p class="muted">${t(`set.${name}.help`)}</p>
      </div>
    `)}
    <div>
      <button class="button" onClick=${() => (sampling.value = {})}>${t("set.reset")}</button>
    </div>
  </div>
`;
