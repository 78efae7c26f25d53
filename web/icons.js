// Line icons on a 24 × 24 grid, drawn for this page.
import { html } from "./html.js";

const PATHS = {
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  plus: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6 6 18",
  sliders: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.5v5M9 14.5v5",
  key: "M8 11a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM11 12l8.5-8.5M15.5 8l3 3M18 5.5l2 2",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2.5M12 19.5V22M2 12h2.5M19.5 12H22M4.9 4.9l1.8 1.8M17.3 17.3l1.8 1.8M4.9 19.1l1.8-1.8M17.3 6.7l1.8-1.8",
  moon: "M20 14.5A8.2 8.2 0 0 1 9.5 4 8.2 8.2 0 1 0 20 14.5z",
  book: "M5 5.5A2.5 2.5 0 0 1 7.5 3H19v15H7.5A2.5 2.5 0 0 0 5 20.5zM5 20.5A2.5 2.5 0 0 0 7.5 21H19v-3",
  tokens: "M3.5 7.5h6v9h-6zM12 7.5h3v9h-3zM17.5 7.5h3v9h-3z",
  warning: "M12 4 2.8 19.5h18.4zM12 10v4.5M12 17v.01",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
};

export const Icon = ({ name }) => html`
  <svg class="icon" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.7" stroke-linecap="round"
    stroke-linejoin="round" aria-hidden="true"><path d=${PATHS[name]} /></svg>
`;

/** A box with a corner of its casing removed: its parts show. */
export const Logo = () => html`
  <svg class="logo" viewBox="0 0 32 32" fill="none" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
    <path class="casing" d="M17 4H9a5 5 0 0 0-5 5v14a5 5 0 0 0 5 5h14a5 5 0 0 0 5-5v-8" />
    <path class="cut" d="M17 4v7a4 4 0 0 0 4 4h7" />
    <path class="part" d="M21.3 3.5h3v3h-3zM26.2 3.5h3v3h-3zM21.3 8.4h3v3h-3zM26.2 8.4h3v3h-3z" />
    <path class="inside" d="M9.5 21.5h13M9.5 16.5h6" />
  </svg>
`;
