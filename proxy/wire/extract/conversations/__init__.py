"""From a request and its answer to the conversation that they were, with its parts, calls and thoughts.

One reader per API shape, each `(request, response) -> policies.conversation.Conversation` over any two JSON objects.
`draft` has the rules that all of them share: calls get ids, a prefill joins its answer, inline thoughts become
reasoning, empty turns go. `parts` knows how pictures, sounds and files are written.
"""
