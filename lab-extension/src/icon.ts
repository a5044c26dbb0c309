import { LabIcon } from "@jupyterlab/ui-components";

// The theme replaces the fill of a "jp-icon3"; it has to be there to be replaced.
/** A falling loss curve over an axis. */
const SVG = `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <path class="jp-icon3" fill="#616161" d="M3 3h2v16h16v2H3z"/>
  <path class="jp-icon3" fill="#616161" d="M6.6 5.3l1.9-.6c1.3 4.3 2.6 6.9 4 8.2 1.5 1.4 3.9 2.1 8.5 2.1v2c-5 0-7.9-.8-9.9-2.6-1.8-1.7-3.2-4.6-4.5-9.1z"/>
</svg>`;

export const runsIcon = new LabIcon({ name: "@aronnax/lab:runs", svgstr: SVG });

/** A chip with its pins. */
const CHIP = `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <path class="jp-icon3 jp-icon-selectable" fill="#616161" d="M8 2h2v3h4V2h2v3h1a2 2 0 0 1 2 2v1h3v2h-3v4h3v2h-3v1a2 2 0 0 1-2 2h-1v3h-2v-3h-4v3H8v-3H7a2 2 0 0 1-2-2v-1H2v-2h3v-4H2V8h3V7a2 2 0 0 1 2-2h1zM7 7v10h10V7zm2 2h6v6H9z"/>
</svg>`;

export const devicesIcon = new LabIcon({ name: "@aronnax/lab:devices", svgstr: CHIP });
