// The HTTP interface, drawn by Swagger UI from the service's own description.

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#interface",
  deepLinking: true,
  // It would show the description to a server elsewhere
  validatorUrl: null,
});
