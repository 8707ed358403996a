package headers

import (
	"crypto/sha256"
	"encoding/binary"
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
	Subject   string   // the provider's own name for them
	Name      string   // for people to read
	Email     string   // empty unless verified
	Groups    []string // in the order they are sent
	Assertion string   // a signed JWT that says the same; empty for nobody
}

// SetIdentity says who is asking, in a header that FromClient returned. User, Email and Groups are always there,
// empty for nobody, so that an app never takes a missing field from elsewhere; Assertion is left out when empty.
// Values are escaped by [Escape], group names joined by commas.
func SetIdentity(h http.Header, id Identity) {
	id.prepared().Set(h, id.Assertion)
}

// Prepared is an Identity in the words in which apps are told of it, worked out once for many requests. It is immutable
// and may be shared. Nobody is Prepare(Identity{}).
type Prepared struct {
	said   [claims][]string // one value each; headers share them, and nothing writes to header values in place
	digest [sha256.Size]byte
}

// Prepare works out what SetIdentity says of id. Its Assertion, which changes every minute, is left to Set. Whatever
// else the assertion tells an app (an unverified address) is handed in as asserted, for the digest alone.
func Prepare(id Identity, asserted ...string) *Prepared {
	p := id.prepared()
	p.digest = digestOf(id, asserted)
	return p
}

// prepared is a Prepared without its digest.
func (id *Identity) prepared() *Prepared {
	username, _, _ := strings.Cut(id.Email, "@")
	p := &Prepared{}
	for claim, value := range [claims]string{claimID: id.User, claimSubject: id.Subject, claimEmail: id.Email, claimUsername: username, claimName: id.Name} {
		p.said[claim] = []string{Escape(value)}
	}
	p.said[claimGroups] = []string{joinGroups(id.Groups)}
	return p
}

// Set says in a header that FromClient returned who is asking, as SetIdentity does.
func (p *Prepared) Set(h http.Header, assertion string) {
	h[User], h[Email], h[Groups] = p.said[claimID], p.said[claimEmail], p.said[claimGroups]
	delete(h, Assertion)
	if assertion != "" {
		h[Assertion] = []string{assertion}
	}
}

// Digest tells apart what apps are told: two Prepared have the same one exactly if they say the same, whatever the
// session, the minute or the process. An answer given to one of them may differ from what another would get.
func (p *Prepared) Digest() [sha256.Size]byte { return p.digest }

// digestOf is SHA-256 over all that is told, each value preceded by its length, each list by its number.
func digestOf(id Identity, asserted []string) [sha256.Size]byte {
	var b []byte
	for _, list := range [][]string{{id.User, id.Subject, id.Name, id.Email}, id.Groups, asserted} {
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, value := range list {
			b = append(binary.AppendUvarint(b, uint64(len(value))), value...)
		}
	}
	return sha256.Sum256(b)
}

func joinGroups(groups []string) string {
	var b strings.Builder
	n := 0
	for _, group := range groups {
		n += len(group) + 1
	}
	b.Grow(n)
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
	NewSite(f.Host, f.Proto, f.Port).SetForwarded(h, NewPeer(f.For))
}

// Site is how clients address an app, in the words in which it is told: worked out once for many requests, immutable.
type Site struct{ host, proto, port []string }

// NewSite works out what is said of Forwarded's Host, Proto and Port.
func NewSite(host, proto string, port uint16) *Site {
	return &Site{host: []string{host}, proto: []string{proto}, port: []string{strconv.Itoa(int(port))}}
}

// Peer is where a connection comes from, in the words in which apps are told: worked out once for many requests,
// immutable. The zero value is an unknown one.
type Peer struct{ address []string }

// NewPeer works out what is said of an address; an invalid one is not known.
func NewPeer(address netip.Addr) Peer {
	if !address.IsValid() {
		return Peer{}
	}
	return Peer{[]string{address.Unmap().WithZone("").String()}}
}

// SetForwarded says where a request came from, as the function of that name does.
func (s *Site) SetForwarded(h http.Header, from Peer) {
	delete(h, "X-Forwarded-For")
	if from.address != nil {
		h["X-Forwarded-For"] = from.address
	}
	h["X-Forwarded-Host"], h["X-Forwarded-Proto"], h["X-Forwarded-Port"] = s.host, s.proto, s.port
}

// SetUpgrade asks the app for another protocol on this connection (RFC 9110 §7.8). FromClient removed the client's
// own wish; the canonical request says which one was admitted.
func SetUpgrade(h http.Header, protocol string) {
	h["Connection"] = []string{"Upgrade"}
	h["Upgrade"] = []string{protocol}
}
