"""Follows a redirect with a cookie jar, as an application with a session does."""
import sys

import requests

session = requests.Session()
session.trust_env = False
print(session.get(sys.argv[1], timeout=30).text)
