// Line icons on a 24 × 24 grid, drawn for this page.
import { html } from "./html.js";

const PATHS = {
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  plus: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6 6 18",
  sliders: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.5v5M9 14.5v5",
  key: "M14.5 9.5a4 4 0 1 0-3.4 3.95L13 15.3h2v2h2v2h3v-3l-5.6-5.6a4 4 0 0 0 .1-1.2zM8.5 8.5h.01",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2.5M12 19.5V22M2 12h2.5M19.5 12H22M4.9 4.9l1.8 1.8M17.3 17.3l1.8 1.8M4.9 19.1l1.8-1.8M17.3 6.7l1.8-1.8",
  moon: "M20 14.5A8.2 8.2 0 0 1 9.5 4 8.2 8.2 0 1 0 20 14.5z",
  book: "M5 5.5A2.5 2.5 0 0 1 7.5 3H19v15H7.5A2.5 2.5 0 0 0 5 20.5zM5 20.5A2.5 2.5 0 0 0 7.5 21H19v-3",
  tokens: "M3.5 7.5h6v9h-6zM12 7.5h3v9h-3zM17.5 7.5h3v9h-3z",
  warning: "M12 4 2.8 19.5h18.4zM12 10v4.5M12 17v.01",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  back: "M19 12H5M11 6l-6 6 6 6",
  copy: "M9 9h10v11H9zM5 15V4h10",
};

export const Icon = ({ name }) => html`
  <svg class="icon" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.7" stroke-linecap="round"
    stroke-linejoin="round" aria-hidden="true"><path d=${PATHS[name]} /></svg>
`;

/** A wheel with a sector of its casing removed: what is inside shows. */
export const Logo = () => html`
  <svg class="logo" viewBox="0 0 32 32" fill="none" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
    <path class="casing" d="M20 4.5A12 12 0 1 0 27.5 20" />
    <path class="cut" d="M20 4.5 16 16l11.5 4" />
    <circle class="inside" cx="16" cy="16" r="5.4" />
    <circle class="part" cx="23.6" cy="10.6" r="2.6" />
  </svg>
`;
