package canon

import (
	"net/http"
	"strconv"
	"strings"
)

// Reject is the refusal of a request that cannot be read in one way only, or not at all.
type Reject struct {
	Status int    // HTTP status of the answer
	Reason string // a Reason, fixed for records and metrics
	Detail string // what was seen: printable ASCII, at most a few hundred bytes; never a query value, cookie or token
	Close  bool   // where this message ends is in doubt: nothing more may be read from the connection
}

func (e *Reject) Error() string {
	if e.Detail == "" {
		return e.Reason
	}
	return e.Reason + ": " + e.Detail
}

// Reason says in one fixed word why a request was refused.
type Reason string

// The reasons. Each has one status, and closes the connection or not, whatever the spelling that led to it.
const (
	// BadMethod: not a method we know (501).
	BadMethod Reason = "method_unknown"
	// MethodNotAllowed: CONNECT, TRACE, TRACK and the server-wide OPTIONS * (405).
	MethodNotAllowed Reason = "method_not_allowed"

	// BadProtocol: neither HTTP/1.1 nor HTTP/2 (505).
	BadProtocol Reason = "protocol"
	// BadFraming: lengths and codings that leave doubt where the message ends.
	BadFraming Reason = "framing"
	// HasTrailer: announces trailer fields, which some servers merge into the header after it was judged.
	HasTrailer Reason = "trailer"
	// BadExpect: an expectation other than 100-continue (417).
	BadExpect Reason = "expectation"
	// BadUpgrade: an upgrade other than a well-formed WebSocket handshake.
	BadUpgrade Reason = "upgrade"

	// BadAuthority: Host or :authority missing, malformed, or two that differ.
	BadAuthority Reason = "authority"
	// Misdirected: the TLS name is not the host asked for (421).
	Misdirected Reason = "misdirected"

	// TargetForm: not an origin-form target: absolute, authority, missing slash.
	TargetForm Reason = "target_form"
	// TargetBytes: bytes that a request target may not hold raw: blanks, controls, "#", "\", anything beyond ASCII.
	TargetBytes Reason = "target_bytes"
	// TargetTooLong: path or query over their limit (414).
	TargetTooLong Reason = "target_too_long"
	// BadEscape: "%" without two hexadecimal digits, in path or query.
	BadEscape Reason = "bad_escape"
	// DoubleEncoded: "%25" in the path, which decodes once more in some servers.
	DoubleEncoded Reason = "double_encoded"
	// EncodedSeparator: an encoded slash or backslash.
	EncodedSeparator Reason = "encoded_separator"
	// ControlByte: an encoded control character in the path.
	ControlByte Reason = "control_byte"
	// BadUTF8: path or query that does not decode to UTF-8; overlong forms are such.
	BadUTF8 Reason = "bad_utf8"
	// DotSegment: "." or "..", in any spelling, or what becomes one when a server cuts a prefix or folds wide characters.
	DotSegment Reason = "dot_segment"
	// EmptySegment: "//".
	EmptySegment Reason = "empty_segment"
	// PathParameter: ";" in the path, where servlet containers cut.
	PathParameter Reason = "path_parameter"
	// TrailingBlank: a segment that ends in a blank, which some file systems drop.
	TrailingBlank Reason = "trailing_blank"

	// QuerySeparator: ";" in the query, which is a separator to some and data to others.
	QuerySeparator Reason = "query_separator"
	// TooManyParams: more query parameters than the limit.
	TooManyParams Reason = "too_many_params"

	// SecondTarget: a header field that names a second resource, in no way that one can be judged by.
	SecondTarget Reason = "second_target"

	// RepeatedField: two fields of a name that a request has one of, such as Content-Type.
	RepeatedField Reason = "repeated_field"
	// BadConnection: Connection names a field that is meant for everybody on the way, such as Origin.
	BadConnection Reason = "connection_option"
	// HeaderTooLarge: too many header fields or bytes (431).
	HeaderTooLarge Reason = "header_too_large"
	// TooManyCookies: more cookies than the limit (431).
	TooManyCookies Reason = "too_many_cookies"
	// BadCredential: a Sallyport-Authorization, or an Authorization meant for the gateway, that is not one token.
	BadCredential Reason = "credential"
	// TwoCredentials: more than one gateway credential in one request.
	TwoCredentials Reason = "two_credentials"
)

// status of the reasons that are not a plain 400.
var status = map[Reason]int{
	BadMethod:        http.StatusNotImplemented,
	MethodNotAllowed: http.StatusMethodNotAllowed,
	BadProtocol:      http.StatusHTTPVersionNotSupported,
	BadExpect:        http.StatusExpectationFailed,
	Misdirected:      http.StatusMisdirectedRequest,
	TargetTooLong:    http.StatusRequestURITooLong,
	HeaderTooLarge:   http.StatusRequestHeaderFieldsTooLarge,
	TooManyCookies:   http.StatusRequestHeaderFieldsTooLarge,
}

// closes lists the reasons after which the rest of the connection means nothing sure.
var closes = map[Reason]bool{
	BadMethod: true, MethodNotAllowed: true, BadProtocol: true, BadFraming: true, HasTrailer: true, BadExpect: true,
	BadUpgrade: true, BadAuthority: true, TargetForm: true, HeaderTooLarge: true,
}

// reject makes a Reject whose detail is what was seen, made safe.
func reject(reason Reason, seen string) *Reject {
	code, special := status[reason]
	if !special {
		code = http.StatusBadRequest
	}
	return &Reject{Status: code, Reason: string(reason), Detail: printable(seen, maxDetail), Close: closes[reason]}
}

// Caps on foreign bytes that are written down, counted before escaping.
const (
	maxDetail = 256
	maxEscape = 1 << 10
)

// Escape makes foreign bytes fit for records, logs and pages: cut to 1 KiB, in printable ASCII, everything else as in a
// Go string literal.
func Escape(s string) string { return printable(s, maxEscape) }

// RedactTarget is a raw request target without its query, which may hold secrets, and without the user information of
// an absolute form.
func RedactTarget(target string) string {
	path, _, hasQuery := strings.Cut(target, "?")
	if scheme, rest, absolute := strings.Cut(path, "://"); absolute && !strings.HasPrefix(path, "/") {
		authority, tail, _ := strings.Cut(rest, "/")
		if at := strings.LastIndexByte(authority, '@'); at >= 0 {
			path = scheme + "://" + authority[at+1:] + "/" + tail
		}
	}
	if hasQuery {
		path += "?"
	}
	return path
}

// printable is s cut to limit bytes and written in printable ASCII.
func printable(s string, limit int) string {
	cut := ""
	if len(s) > limit {
		s, cut = s[:limit], "..."
	}
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' || s[i] == '"' || s[i] == '\\' {
			quoted := strconv.QuoteToASCII(s)
			return quoted[1:len(quoted)-1] + cut
		}
	}
	return s + cut
}
