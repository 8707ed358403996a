package headers

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// What the gateway says to apps.
const (
	User      = "X-Sallyport-User"
	Email     = "X-Sallyport-Email"
	Groups    = "X-Sallyport-Groups"
	Assertion = "X-Sallyport-Assertion"
)

// Identity is who is asking, as an app is told. The zero value is nobody.
type Identity struct {
	User      string   // provider|subject
	Email     string   // empty unless verified
	Groups    []string // in the order they are sent
	Assertion string   // a signed JWT that says the same; empty for nobody
}

// SetIdentity says who is asking, in a header that FromClient returned. User, Email and Groups are always there,
// empty for nobody, so that an app never takes a missing field from elsewhere; Assertion is left out when empty.
// Values are escaped by [Escape], group names joined by commas.
func SetIdentity(h http.Header, id Identity) {
	h[User] = []string{Escape(id.User)}
	h[Email] = []string{Escape(id.Email)}
	h[Groups] = []string{joinGroups(id.Groups)}
	delete(h, Assertion)
	if id.Assertion != "" {
		h[Assertion] = []string{id.Assertion}
	}
}

func joinGroups(groups []string) string {
	var b strings.Builder
	for i, group := range groups {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(Escape(group))
	}
	return b.String()
}

// Escape percent-encodes (RFC 3986 §2.1) every byte of an identity value that is not visible ASCII, and also the
// comma, which separates groups, and the percent sign itself. Any URL-decoder that leaves "+" alone reads it back.
// Spaces are encoded too: servers trim them at the ends of a field.
func Escape(value string) string {
	n := 0
	for i := 0; i < len(value); i++ {
		if mustEscape(value[i]) {
			n++
		}
	}
	if n == 0 {
		return value
	}
	b := make([]byte, 0, len(value)+2*n)
	for i := 0; i < len(value); i++ {
		c := value[i]
		if !mustEscape(c) {
			b = append(b, c)
			continue
		}
		b = append(b, '%', upperHex[c>>4], upperHex[c&15])
	}
	return string(b)
}

const upperHex = "0123456789ABCDEF"

func mustEscape(c byte) bool {
	return c <= ' ' || c >= 0x7f || c == ',' || c == '%'
}

// Forwarded is where a request came from and how the client addressed the gateway.
type Forwarded struct {
	For   netip.Addr // the peer; left out when invalid
	Host  string     // public host of the app, with the port unless it is the scheme's default
	Proto string     // "https"
	Port  uint16     // public port
}

// SetForwarded says where a request came from, in a header that FromClient returned: X-Forwarded-For holds the peer's
// address alone, whatever the client claimed.
func SetForwarded(h http.Header, f Forwarded) {
	delete(h, "X-Forwarded-For")
	if f.For.IsValid() {
		h["X-Forwarded-For"] = []string{f.For.Unmap().WithZone("").String()}
	}
	h["X-Forwarded-Host"] = []string{f.Host}
	h["X-Forwarded-Proto"] = []string{f.Proto}
	h["X-Forwarded-Port"] = []string{strconv.Itoa(int(f.Port))}
}

// SetUpgrade asks the app for another protocol on this connection (RFC 9110 §7.8). FromClient removed the client's
// own wish; the canonical request says which one was admitted.
func SetUpgrade(h http.Header, protocol string) {
	h["Connection"] = []string{"Upgrade"}
	h["Upgrade"] = []string{protocol}
}
