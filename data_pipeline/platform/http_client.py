"""Connections to web servers, through the proxy that the environment names."""

from urllib.parse import unquote
from urllib.request import getproxies, proxy_bypass

import urllib3


def connections_to(url: str) -> urllib3.PoolManager:
    """What sends requests to a URL: directly, or through the proxy of `https_proxy` and so on."""
    parts = urllib3.util.parse_url(url)
    proxy = getproxies().get(parts.scheme or "")
    if not proxy or proxy_bypass(parts.host or ""):
        return urllib3.PoolManager()
    auth = urllib3.util.parse_url(proxy).auth
    headers = urllib3.make_headers(proxy_basic_auth=unquote(auth)) if auth else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers)
