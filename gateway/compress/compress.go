// Package compress makes answers smaller with gzip where that tells nobody anything.
//
// Apply decides, and rewrites the header of an answer that is going to be compressed; a Writer compresses its body as it
// passes. Neither reads more than the head of request and answer, and nothing is ever decompressed.
//
// # The security argument
//
// Compression makes length depend on content. Whoever sees the length of an answer (everybody on the network does, TLS
// or not) and chooses a part of its text learns whether his text occurs in the rest of it too: guess by guess, that
// is the rest of it (BREACH, 2013; the attack on TLS compression was CRIME). It takes three things in one compressed
// answer: a secret, a text of the attacker's, and a way to have the victim's browser ask again and again. We cannot know
// the first and the second, so an answer is compressed only where the third or the first is missing:
//
//   - it is public: the app says public or s-maxage, neither private nor no-store, and sets no cookie. What anybody may
//     have is no secret;
//   - or the browser vouches that nobody else made it ask: Sec-Fetch-Site is same-origin (the app's own pages) or none
//     (the address bar, a bookmark). Pages can neither set nor remove the field, and a redirect does not wash it: it
//     speaks of the whole chain of URLs (Fetch Metadata §2.2). same-site is not enough: a sibling host is an attacker here;
//   - a request without the field may come from an old browser on behalf of any page: only public answers.
//
// An answer that sets a cookie is never compressed: its secret would be fresh, and worth more than the bytes.
//
// What remains: an app whose own pages ask again and again with a text that a stranger chose (stored in the app, put in
// a fragment, posted as a message) for an answer that also holds a secret. The gateway cannot see that; this is why
// compression is off until the operator turns it on for an app, and why the app can say no-transform.
//
// # Validators
//
// A compressed answer is another representation, so a strong ETag must not stay (RFC 9110 §8.8.3.3): it becomes weak. The
// weak tag comes back in If-None-Match, which is compared weakly (§13.1.2), so the app's "x" and the client's W/"x" match
// with nothing to translate; only the app's 304 has to name the tag that the client holds, see revalidated. If-Range
// demands a strong tag (§13.1.5), so ranges of the two representations are never put together. If-Match demands one too:
// a client that edits on condition of a tag cannot use a compressed answer's; such apps say no-transform.
package compress

import (
	"net/http"
	"slices"
	"strings"
)

// minLength is the shortest body that is worth the header fields and the time: less fits one packet anyway.
const minLength = 1 << 10

// Request is what the decision needs to know of the client's request, as the client sent it.
type Request struct {
	Method string
	Header http.Header
}

// Apply decides whether the answer with this status, length (-1: unknown) and header is compressed for the request. If so
// it rewrites the header and reports true: the body has to go through a Writer. HEAD is answered with the header of GET
// (RFC 9110 §9.3.2) and reported false, having no body. An answer that another client would get compressed is marked
// with Vary. Nothing is left to check: the caller asks for each final answer of an app whose operator wants compression.
func Apply(r Request, status int, length int64, header http.Header) bool {
	if status == http.StatusNotModified {
		revalidated(r.Header, header)
		return false
	}
	if r.Method == http.MethodConnect || !compressible(status, length, header) {
		return false
	}
	addVary(header)
	if !accepts(r.Header["Accept-Encoding"]) || directives(r.Header).has("no-transform") || !harmless(r.Header, header) {
		return false
	}
	rewrite(header)
	return r.Method != http.MethodHead
}

// compressible reports whether anybody would get this answer compressed.
func compressible(status int, length int64, header http.Header) bool {
	switch status {
	case http.StatusOK, http.StatusNonAuthoritativeInfo, http.StatusNotFound:
	default:
		return false // 206 and 304 speak of the app's own bytes, others are short
	}
	if length >= 0 && length < minLength {
		return false
	}
	for _, name := range untouchable {
		if len(header[name]) > 0 {
			return false
		}
	}
	// RFC 9111 §5.2.2.6: no-transform.
	return compressibleType(header.Get("Content-Type")) && !digestFollows(header) && !directives(header).has("no-transform")
}

// untouchable are the fields of answers that stay as they are: encoded or partial already, a new secret, or vouched
// for byte by byte (RFC 9530, RFC 9421; what was vouched for is what should arrive).
var untouchable = []string{
	"Content-Encoding", "Content-Range", "Set-Cookie",
	"Content-Digest", "Repr-Digest", "Digest", "Content-Md5", "Signature",
}

// digestFollows reports whether the trailer is going to vouch for the bytes.
func digestFollows(header http.Header) bool {
	for name := range tokens(header["Trailer"]) {
		if slices.Contains(untouchable, http.CanonicalHeaderKey(name)) {
			return true
		}
	}
	return false
}

// harmless is the security argument of the package comment.
func harmless(request, answer http.Header) bool {
	if d := directives(answer); (d.has("public") || d.has("s-maxage")) && !d.has("private") && !d.has("no-store") {
		return true
	}
	site := request["Sec-Fetch-Site"]
	return len(site) == 1 && (site[0] == "same-origin" || site[0] == "none")
}

// rewrite makes the header that of the compressed representation.
func rewrite(header http.Header) {
	header["Content-Encoding"] = []string{"gzip"}
	delete(header, "Content-Length")
	delete(header, "Accept-Ranges") // ranges are the app's to serve, and only of its own bytes
	if tag := header.Get("Etag"); strings.HasPrefix(tag, `"`) {
		header["Etag"] = []string{"W/" + tag}
	}
}

// revalidated makes a 304 name the tag that the client holds. A cache freshens by a strong tag only what it stored under
// the same strong tag (RFC 9111 §4.3.4), and what it got from us compressed it stored under the weak one.
func revalidated(request, header http.Header) {
	tag := header.Get("Etag")
	if !strings.HasPrefix(tag, `"`) {
		return
	}
	weak := false
	for held := range entityTags(request["If-None-Match"]) {
		if held == tag {
			return
		}
		weak = weak || held == "W/"+tag
	}
	if weak {
		header["Etag"] = []string{"W/" + tag}
		addVary(header)
	}
}

// addVary names the request field that the choice hangs on. Sec-Fetch-Site is left out on purpose: whoever accepts gzip
// can use either representation, and a private cache that answers by itself sends nothing whose length could be seen.
func addVary(header http.Header) {
	for name := range tokens(header["Vary"]) {
		if name == "*" || strings.EqualFold(name, "Accept-Encoding") {
			return
		}
	}
	header["Vary"] = append(header["Vary"][:len(header["Vary"]):len(header["Vary"])], "Accept-Encoding")
}
