// Fetches a URL; NODE_USE_ENV_PROXY and NODE_EXTRA_CA_CERTS say how. Argument: URL.
try {
  const response = await fetch(process.argv[2]);
  console.log(response.status, response.statusText);
  console.log(await response.text());
} catch (error) {
  for (let cause = error; cause !== undefined; cause = cause.cause) console.error(cause.message);
  process.exitCode = 1;
}
