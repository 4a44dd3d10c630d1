"""How the report looks: one column on a narrow screen or in a frame, two on a wide one."""

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 20px 28px 48px; max-width: 1560px; background: #fff;
  color: #1c2733; font: 15px/1.45 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial,
  sans-serif; }
h1 { margin: 0; font-size: 28px; overflow-wrap: anywhere; }
h2 { margin: 0 0 10px; font-size: 18px; }
header p { margin: 4px 0 0; color: #55616c; max-width: 90ch; overflow-wrap: anywhere; }
header .kind { text-transform: uppercase; letter-spacing: .06em; font-size: 12px; }
a { color: #0072b2; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px;
  margin: 18px 0; }
.card { border: 1px solid #dde3e8; border-radius: 8px; padding: 10px 14px; }
.card .name { font-size: 12px; color: #55616c; text-transform: uppercase;
  letter-spacing: .05em; }
.card .value { font-size: 23px; font-weight: 650; overflow-wrap: anywhere; line-height: 1.25; }
.card .told { font-size: 13px; color: #55616c; overflow-wrap: anywhere; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(560px, 100%), 1fr));
  gap: 16px; align-items: start; }
figure { margin: 0; border: 1px solid #dde3e8; border-radius: 8px; padding: 8px; }
img { width: 100%; height: auto; display: block; }
section { margin: 26px 0 0; min-width: 0; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(480px, 100%), 1fr));
  gap: 0 36px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
.leaderboard { width: 100%; }
th { text-align: left; font-weight: 600; color: #55616c; border-bottom: 2px solid #b4bcc4;
  padding: 5px 12px 5px 0; vertical-align: bottom; }
td { border-bottom: 1px solid #e6eaee; padding: 5px 12px 5px 0; vertical-align: top;
  overflow-wrap: anywhere; min-width: 3ch; }
tr.best td, tr.challenger td { background: #eaf4fb; font-weight: 600; }
tr.broken td { background: #fdf1e7; }
.reason { font-size: 12.5px; font-weight: 400; color: #55616c; max-width: 46ch; }
.badge { background: #0072b2; color: #fff; border-radius: 10px; padding: 1px 8px;
  font-size: 12px; white-space: nowrap; }
table + dl, .scroll + dl { margin-top: 10px; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 4px 16px; margin: 0; }
dt { color: #55616c; }
dd { margin: 0; overflow-wrap: anywhere; }
pre { background: #f4f6f8; border-radius: 6px; padding: 10px 12px; margin: 0 0 10px;
  white-space: pre-wrap; overflow-wrap: anywhere; }
code, pre { font-size: 13.5px; }
@media print { .pictures, .columns { grid-template-columns: 1fr 1fr; } }
"""
