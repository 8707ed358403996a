package canon

import (
	"net/http"
	"strings"
)

// readAuthority wants one host, spelt as a DNS name, and the same one in the TLS handshake: routes, policies and
// cookies are per host, and a connection opened for one of them must not reach another (RFC 9110 §7.4).
func (q *Request) readAuthority(r *http.Request, _ *Rules) *Reject {
	if r.TLS == nil {
		return reject(BadAuthority, "not https")
	}
	// net/http keeps a Host field beside :authority in HTTP/2 (RFC 9113 §8.3.1 wants them equal).
	for _, host := range r.Header["Host"] {
		if !strings.EqualFold(host, r.Host) || len(r.Header["Host"]) > 1 {
			return reject(BadAuthority, "host beside :authority: "+host)
		}
	}
	authority := lower(r.Host)
	host, port, hasPort := strings.Cut(authority, ":")
	if !isHostName(host) || hasPort && !isPort(port) {
		return reject(BadAuthority, r.Host)
	}
	q.Authority, q.Host, q.SNI = authority, host, lower(r.TLS.ServerName)
	if q.SNI != q.Host {
		return reject(Misdirected, "sni "+q.SNI+", host "+q.Host)
	}
	return nil
}

// isHostName admits DNS names in lower-case ASCII: labels of 1 to 63 letters, digits, hyphens and underscores, 253
// bytes in all, no final dot (TLS names have none either, RFC 6066 §3). IP addresses pass here and fail against SNI.
func isHostName(host string) bool {
	label := 0
	for i := 0; i < len(host); i++ {
		switch c := host[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			label++
		case c == '.' && label > 0:
			label = 0
		default:
			return false
		}
		if label > 63 {
			return false
		}
	}
	return label > 0 && len(host) <= 253
}

// isPort admits 1 to 65535 without leading zeros.
func isPort(port string) bool {
	if port == "" || len(port) > 5 || port[0] == '0' {
		return false
	}
	n := 0
	for i := 0; i < len(port); i++ {
		if port[i] < '0' || port[i] > '9' {
			return false
		}
		n = 10*n + int(port[i]-'0')
	}
	return n <= 65535
}

// lower folds ASCII only: unicode folding would turn the Kelvin sign into a k.
func lower(s string) string {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
