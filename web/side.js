// The panel beside the conversation. It shows one thing at a time: a passage, a token, or the settings.
import { html, useEffect, useRef } from "./html.js";
import { t } from "./i18n.js";
import { Icon } from "./icons.js";
import { Inspector } from "./inspector.js";
import { closeSide, covering, side } from "./opened.js";
import { Passage } from "./passage.js";
import { Settings } from "./settings.js";

const VIEWS = { passage: Passage, token: Inspector, settings: Settings };

export function SidePanel() {
  const panel = useRef(null);
  const shown = side.value;
  const view = shown?.view;
  // A passage or the settings take the focus; a token keeps it where it can be seen, so that the arrow keys go on to its
  // neighbours.
  useEffect(() => {
    if (view && (view !== "token" || covering.value)) panel.current.focus();
  }, [view]);
  if (!shown) return null;
  return html`
    <aside class="side" ref=${panel} tabindex="-1" aria-label=${t(`side.${view}`)}>
      <header>
        <h2>${t(`side.${view}`)}</h2>
        <button class="button quiet iconic" aria-label=${t("close")} title=${t("close")} onClick=${closeSide}>
          <${Icon} name="close" />
        </button>
      </header>
      <div class="content"><${VIEWS[view]} ...${shown} /></div>
    </aside>
  `;
}
