"""What a challenger answers before any user sees it: old questions and a golden file, compared with the champion.

`runner` runs one check, `ledger` keeps what it has found, `prompts` and `golden` say what is asked, `asking` asks,
`reading` sees what came back, `weighing` has a judge compare, `tally` says what follows. `gate` runs them for the loop,
`alone` for a person; `shadow` compares the answers to copies of live requests.
"""
