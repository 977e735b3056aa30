"""Fetches a URL through the proxy of the environment. Arguments: CA file, URL."""
import ssl
import sys
import urllib.error
import urllib.request

context = ssl.create_default_context(cafile=sys.argv[1])
try:
    with urllib.request.urlopen(sys.argv[2], context=context) as response:
        print(response.status, response.reason)
        print(response.read().decode())
except urllib.error.HTTPError as error:
    sys.exit(f"{error}\n{error.read().decode()}")
except urllib.error.URLError as error:
    sys.exit(str(error))
