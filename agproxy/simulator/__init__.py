"""A simulated Gemini: a server application that speaks the Gemini API, to develop against offline and at no cost.

`agproxy simulate` serves it alone; `--simulate auto` puts it behind the gateway where no account is configured. It is
a reading of the API of its own, after Google's documents and recorded traffic, and shares no code with the gateway's
backend. The same request always gets the same bytes: it keeps no time, no chance and, but for `fail-first` and
replay, no memory.

Methods, under /v1beta, /v1 and /v1alpha:

    POST models/MODEL:generateContent              POST models/MODEL:streamGenerateContent (alt=sse or an array)
    POST models/MODEL:countTokens                  GET  models, GET models/MODEL
    POST models/MODEL:embedContent                 POST models/MODEL:batchEmbedContents

the same under tunedModels/; Vertex AI's paths, /v1 or /v1beta1, projects/P/locations/L/publishers/google/models/MODEL,
without a project (express) and with endpoints/ID, plus `predict` for embeddings; Code Assist's /v1internal:METHOD.

A request needs a key: x-goog-api-key, ?key= or Authorization: Bearer. Any will do. A word in the key decides about
every request that carries it, so that a pool of keys can be tried:

    invalid     400 API_KEY_INVALID (401 for a Bearer token)
    expired     401 UNAUTHENTICATED, ACCESS_TOKEN_EXPIRED
    denied      403 PERMISSION_DENIED, SERVICE_DISABLED
    limited     429 with RetryInfo, a quota per minute
    exhausted   429, a quota per day
    overloaded  503 UNAVAILABLE

Answers. Text names the user's words, the instructions, the files and the turn it answers. A declared function is
called when the user's words share one with its name or description (mode ANY: always), with arguments from its schema
and from the names, numbers and quoted texts in the sentence; "both", "twice" or "Paris and London" give two calls.
Results of functions are quoted back. A response schema gets JSON that is valid for it. Models that think do, in
`thoughtsTokenCount` and, with includeThoughts, in thought parts; Gemini 3 signs. googleSearch, googleMaps, fileSearch
and urlContext give grounding metadata, codeExecution runs one sum, image models draw a small PNG, speech models hum.
One token is at most twelve characters of a word with the space before it; a stream sends one a chunk.

A request is checked as Google checks it, and no more strictly, and refused with Google's words.

Markers in the user's last words change what happens; several may stand together, and an unknown one is a 400. A
marker's value ends at the first "]]".

    [[sim:400]]                        400 INVALID_ARGUMENT
    [[sim:400-location]]               400 FAILED_PRECONDITION, as for a country where the API is not offered
    [[sim:400-too-long]]               400 INVALID_ARGUMENT, as for a prompt over the model's limit
    [[sim:401]]                        401 UNAUTHENTICATED, as for an expired access token
    [[sim:403]]                        403 PERMISSION_DENIED, as for an API that is switched off
    [[sim:404]]                        404 NOT_FOUND, as for a model that is gone
    [[sim:429[=SECONDS]]]              429 RESOURCE_EXHAUSTED per minute, with RetryInfo (34.074824224 s unless given)
    [[sim:429-daily]]                  429 RESOURCE_EXHAUSTED for the day's quota
    [[sim:429-zero]]                   429 for a quota of 0: the model is not in this tier
    [[sim:429-capacity]]               429 without details, as Vertex AI sends it when its shared capacity is used up
    [[sim:500]]                        500 INTERNAL
    [[sim:503]]                        503 UNAVAILABLE
    [[sim:504]]                        504 DEADLINE_EXCEEDED
    [[sim:html]]                       502 with a page in HTML, as Google's front end sends it
    [[sim:fail-first=N[,STATUS]]]      the first N requests with this prompt fail with 503 (or STATUS)
    [[sim:slow=SECONDS]]               wait before the first byte
    [[sim:pause=SECONDS]]              wait in the middle of the stream
    [[sim:delay=SECONDS]]              wait between two words of the stream
    [[sim:cut]]                        break the connection in the middle of the answer
    [[sim:error-mid-stream[=STATUS]]]  a bare JSON error (499 unless given) in the middle of the stream
    [[sim:garbage]]                    something that is not JSON in the middle of the answer
    [[sim:no-finish]]                  the answer ends without a finishReason
    [[sim:blocked[=REASON]]]           the prompt is blocked: promptFeedback (SAFETY unless given), no candidates
    [[sim:safety]]                     the answer stops half way with finishReason SAFETY
    [[sim:recitation]]                 the answer stops half way with finishReason RECITATION and a citation
    [[sim:finish=REASON]]              the answer stops half way with this finishReason, known or not
    [[sim:empty]]                      STOP without any part
    [[sim:malformed-call]]             MALFORMED_FUNCTION_CALL without content
    [[sim:max-tokens]]                 the answer stops half way with finishReason MAX_TOKENS
    [[sim:call=NAME [ARGS]]]           call this function, declared or not; ARGS is a JSON object
    [[sim:calls=N]]                    N parallel calls
    [[sim:steps=N]]                    N steps of calls, one after another, before the answer in text
    [[sim:preface=TEXT]]               text before the calls
    [[sim:think=N]]                    think N words
    [[sim:words=N]]                    an answer of N words: w1 w2 w3 ...
    [[sim:echo]]                       the answer is the user's text without its markers
    [[sim:say=TEXT]]                   the answer is TEXT
    [[sim:cached=N]]                   report N tokens of the prompt as cached
    [[sim:replay=NAME]]                answer with the recorded file of this name from the replay folder

Replay: with a folder of recorded answers, those are served in the order of their names, over and over, instead of
made-up ones. NAME.json is a whole answer, an error, an array of chunks, or an exchange (an object with `response`,
and perhaps `status`); NAME.txt an event stream as captured; NAME.chunks.txt one chunk a line. What was recorded whole
comes as a stream of one chunk, what was recorded as a stream has its parts joined where a whole answer is asked for.
Requests are checked all the same.
"""

from .app import Simulator, refuse

__all__ = ["Simulator", "refuse"]
