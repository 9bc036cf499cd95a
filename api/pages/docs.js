// The reference, drawn by Scalar from our own openapi.json. All that would speak to another host, or keep a credential, is switched off here;
// the page's Content-Security-Policy forbids it besides.

const here = new URL(".", location.href).href.slice(0, -1);
const answer = await fetch("openapi.json");
const text = await answer.text();
const base = JSON.parse(text).servers[0].url;

Scalar.createApiReference("#reference", {
  // as the server is reached here, so that requests stay within this origin
  content: JSON.parse(text.replaceAll(`"${base}`, `"${here}`)),
  telemetry: false,
  persistAuth: false,
  withDefaultFonts: false,
  hideClientButton: true,
  showDeveloperTools: "never",
  agent: { disabled: true },
  mcp: { disabled: true },
  proxyUrl: "",
  externalUrls: { dashboardUrl: "", registryUrl: "", proxyUrl: "", apiBaseUrl: "" },
  documentDownloadType: "none",
  authentication: { preferredSecurityScheme: "oauth2" },
  defaultHttpClient: { targetKey: "shell", clientKey: "curl" },
  // what Scalar has no option for: buttons that only lead to its own site, and a link there
  customCss: ".selected-client-action, .generate-sdk-button { display: none !important } a[href*='scalar.com'] { pointer-events: none }",
});
