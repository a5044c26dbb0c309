import { LabIcon } from "@jupyterlab/ui-components";

// The theme replaces the fill of a "jp-icon3"; it has to be there to be replaced.
/** A falling loss curve over an axis. */
const SVG = `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <path class="jp-icon3" fill="#616161" d="M3 3h2v16h16v2H3z"/>
  <path class="jp-icon3" fill="#616161" d="M6.6 5.3l1.9-.6c1.3 4.3 2.6 6.9 4 8.2 1.5 1.4 3.9 2.1 8.5 2.1v2c-5 0-7.9-.8-9.9-2.6-1.8-1.7-3.2-4.6-4.5-9.1z"/>
</svg>`;

export const runsIcon = new LabIcon({ name: "@aronnax/lab:runs", svgstr: SVG });
