def run(*_): raise SystemExit(2)
