package upstream

import (
	"errors"
	"fmt"
	"time"
)

// Balance says which address a request goes to.
type Balance struct {
	// Method chooses among the addresses that are in service. "peak_ewma" looks at two at random and takes the one that is
	// expected to answer sooner, by its recent latency (a moving average that follows peaks at once) and the requests it
	// is busy with. "round_robin" goes round them in turn by weight. "least_outstanding" takes the one with the fewest
	// requests under way for its weight. "hash" sends requests with the same key to the same address; when an address
	// comes or goes, only its own share of the keys moves.
	// All of them leave an address that fails or hangs; only peak_ewma leaves one because it is slow. Default "peak_ewma".
	Method Method `yaml:"method" default:"peak_ewma" enum:"peak_ewma,round_robin,least_outstanding,hash"`
	// Hash is the key of method "hash": the signed-in "user", a "cookie", a "header" or the client's "ip". Requests
	// without it are spread as by "peak_ewma". Default "user".
	Hash Hash `yaml:"hash" default:"user" enum:"user,cookie,header,ip"`
	// Name is the name of the cookie or header for hash "cookie" and "header". Required there.
	Name string `yaml:"name"`
	// Sticky keeps a person at the address that answered them first, by a sealed cookie, as long as it is in service.
	// Default false.
	Sticky bool `yaml:"sticky"`
	// SlowStart is how long an address that is new or back in service takes to reach its full weight, so that an app with
	// cold caches is not flooded. It does not bend "hash", whose keys would move twice. Default 0: full weight at once.
	SlowStart time.Duration `yaml:"slow_start"`
}

// Check asks for the name that a hash key needs.
func (b *Balance) Check() error {
	if b.Method == MethodHash && (b.Hash == HashCookie || b.Hash == HashHeader) && b.Name == "" {
		return fmt.Errorf("hash: %s needs the name of the %s in name", b.Hash, b.Hash)
	}
	return nil
}

// Method is a way to choose an address.
type Method string

const (
	MethodPeakEWMA         Method = "peak_ewma"
	MethodRoundRobin       Method = "round_robin"
	MethodLeastOutstanding Method = "least_outstanding"
	MethodHash             Method = "hash"
)

// Hash names what requests that belong together have in common.
type Hash string

const (
	HashUser   Hash = "user"
	HashCookie Hash = "cookie"
	HashHeader Hash = "header"
	HashIP     Hash = "ip"
)

// Health asks the addresses of an app regularly whether they are well. Absent: no such checks; requests alone show it.
type Health struct {
	// Path is requested with GET by type "http", such as /healthz, without identity, as user agent sallyport-health.
	// Setting it turns checks on. Default: none.
	Path string `yaml:"path"`
	// Type is "http" for requests to path or "tcp" for connections, TLS included. Default: http when path is set, else no
	// checks.
	Type HealthType `yaml:"type" enum:"http,tcp"`
	// Interval is the time from one check of an address to the next; half of it while an address is between two states,
	// so that fall failures take less than fall intervals. Default 5s.
	Interval time.Duration `yaml:"interval" default:"5s"`
	// Timeout is how long a check may take. Default 2s.
	Timeout time.Duration `yaml:"timeout" default:"2s"`
	// Rise is how many checks in a row must succeed before an address that was down is in service again. Default 2.
	Rise int `yaml:"rise" default:"2"`
	// Fall is how many checks in a row must fail before an address is down. Default 3.
	Fall int `yaml:"fall" default:"3"`
	// Status lists the statuses that mean well. Default: all from 200 to 399.
	Status []int `yaml:"status" config:"single"`
	// Host is the Host that checks send. Default: the address's own.
	Host string `yaml:"host"`
}

// HealthType is what a health check does.
type HealthType string

const (
	HealthHTTP HealthType = "http"
	HealthTCP  HealthType = "tcp"
)

// Check reports settings under which no address could ever be well.
func (h *Health) Check() error {
	var errs []error
	if h.Path != "" && h.Path[0] != '/' {
		errs = append(errs, fmt.Errorf("path %q must start with a slash", h.Path))
	}
	if h.Type == HealthHTTP && h.Path == "" {
		errs = append(errs, errors.New("type: http needs a path"))
	}
	if h.Type == HealthTCP && h.Path != "" {
		errs = append(errs, errors.New("path has no meaning with type: tcp"))
	}
	if h.kind() != "" && (h.Interval <= 0 || h.Timeout <= 0 || h.Rise < 1 || h.Fall < 1) {
		errs = append(errs, errors.New("interval, timeout, rise and fall must be more than nothing"))
	}
	return errors.Join(errs...)
}

// kind is what is checked, or "" for no checks.
func (h *Health) kind() HealthType {
	if h.Type == "" && h.Path != "" {
		return HealthHTTP
	}
	return h.Type
}

// Ejection takes an address out of service whose requests fail: connections that fail or break, timeouts, and the
// statuses 500, 502, 503 and 504. A connection that cannot be made at all ejects at once. When the time is over, one
// request is let through (one that could be repeated elsewhere, if possible): if it succeeds the address is back.
type Ejection struct {
	// Failures is how many failures in a row eject. Default 5; 0 turns ejection off.
	Failures int `yaml:"failures" default:"5"`
	// Rate ejects when this share of the last 10 seconds' requests failed, at least 20 requests. Default 0.5; 0 is off.
	Rate float64 `yaml:"rate" default:"0.5"`
	// Time is how long an address is out; it doubles each time up to max_time. Default 5s.
	Time time.Duration `yaml:"time" default:"5s"`
	// MaxTime is the longest time out. Default 30s.
	MaxTime time.Duration `yaml:"max_time" default:"30s"`
	// MaxShare is the largest share of an app's addresses out at once, from 0 to 1; among two or more, one may always be
	// out. Default 0.5.
	MaxShare float64 `yaml:"max_share" default:"0.5"`
}

// Check reports shares that are none.
func (e *Ejection) Check() error {
	if e.Rate < 0 || e.Rate > 1 || e.MaxShare < 0 || e.MaxShare > 1 {
		return errors.New("rate and max_share must be from 0 to 1")
	}
	if e.Failures < 0 || e.Failures > 0 && e.Time <= 0 {
		return errors.New("failures must not be negative, and time must be more than nothing")
	}
	return nil
}

// Limits bound what one address has to do at a time. What it may not take yet waits here, first come first served; what
// may not even wait goes to another address, or is refused with 503.
type Limits struct {
	// MaxConnections is the most requests under way at one address; over HTTP/1.1 each has a connection of its own.
	// Default 0: no limit.
	MaxConnections int `yaml:"max_connections"`
	// MaxPending is the most requests that wait for their turn at one address. Default 128.
	MaxPending int `yaml:"max_pending" default:"128"`
	// PendingTimeout is the longest wait for a turn. Default 5s.
	PendingTimeout time.Duration `yaml:"pending_timeout" default:"5s"`
}

// Check reports numbers that are none.
func (l *Limits) Check() error {
	if l.MaxConnections < 0 || l.MaxPending < 0 {
		return errors.New("max_connections and max_pending must not be negative")
	}
	return nil
}

// Retry sends a request again, to another address, when that is safe. A request of which certainly nothing was sent, for
// want of a connection, is always tried elsewhere. One that an app may have seen is repeated only if its method is
// idempotent (GET, HEAD, OPTIONS, TRACE, PUT, DELETE; RFC 9110 §9.2.2) and its body is at hand. POST and PATCH never are.
// An app with one address in service is asked once.
type Retry struct {
	// Attempts is how often a request that may have been sent is sent again. Default 2; 0 turns it off.
	Attempts int `yaml:"attempts" default:"2"`
	// Budget is how large a share of the last 10 seconds' requests repetitions may be, besides 3 a second that are always
	// allowed. It keeps an outage from being multiplied. Default 0.2.
	Budget float64 `yaml:"budget" default:"0.2"`
	// Status lists the answers that are worth another try. When it does not succeed either, the client gets one of the
	// app's answers. Default 500, 502, 503 and 504.
	Status []int `yaml:"status" default:"500,502,503,504" config:"single"`
}

// maxAttempts bounds how often one request can be sent.
const maxAttempts = 8

// Check reports numbers that are none.
func (r *Retry) Check() error {
	if r.Attempts < 0 || r.Attempts >= maxAttempts || r.Budget < 0 || r.Budget > 1 {
		return fmt.Errorf("attempts must be from 0 to %d, budget from 0 to 1", maxAttempts-1)
	}
	return nil
}

// Timeouts bound how long the gateway waits for an app.
type Timeouts struct {
	// Connect is the longest wait for a connection, TLS included. Default 5s.
	Connect time.Duration `yaml:"connect" default:"5s"`
	// Response is the longest wait for the head of an answer after the request was sent. Default 60s.
	Response time.Duration `yaml:"response" default:"60s"`
	// Idle closes kept connections to the app that were not used this long. Keep it below the app's own keep-alive time:
	// a POST that meets a connection which the app is just closing cannot be repeated and is answered 502. Default 90s.
	Idle time.Duration `yaml:"idle" default:"90s"`
	// Attempt bounds one try, from its start to the head of the answer; then the request is repeated elsewhere if that is
	// safe. Default 0: response alone bounds it.
	Attempt time.Duration `yaml:"attempt"`
	// Total bounds all tries of a request together, up to the head of the answer. Default 0: no such bound.
	Total time.Duration `yaml:"total"`
}

// TLS is how https:// addresses are spoken to. TLS 1.2 is the oldest accepted version.
type TLS struct {
	// CA is a PEM file of the authorities that may vouch for the app. Default: the system's.
	CA string `yaml:"ca" config:"path"`
	// ServerName is the name asked for (SNI) and expected in the certificate. Default: the host of the address.
	ServerName string `yaml:"server_name"`
	// ClientCertificate is a PEM file with the certificate chain the gateway shows the app; its key is with the key
	// process. Default: none.
	ClientCertificate string `yaml:"client_certificate" config:"path"`
	// InsecureSkipVerify accepts any certificate: whoever sits between gateway and app can read and change everything.
	// Default false.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify"`
}

// Protocol is what is spoken with an app.
type Protocol string

const (
	// ProtocolAuto is HTTP/1.1, and HTTP/2 for gRPC where TLS agrees on it.
	ProtocolAuto  Protocol = "auto"
	ProtocolHTTP1 Protocol = "http1"
	// ProtocolH2 is HTTP/2 over TLS.
	ProtocolH2 Protocol = "h2"
	// ProtocolH2C is HTTP/2 without TLS, with prior knowledge (RFC 9113 §3.3).
	ProtocolH2C Protocol = "h2c"
)
