package sink

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/audit/export"
	"sallyport/audit/filter"
)

// Config describes one receiver of audit records.
type Config struct {
	// Name names the sink in heartbeats, metrics and its cursor: lower-case letters, digits and hyphens, at most 32. A sink
	// under another name starts over. Required.
	Name string `yaml:"name" config:"required"`
	// Type is "syslog" (RFC 5424 over TLS, RFC 5425: octet counting, TLS 1.2 or later) or "http" (POST of batches).
	// Syslog has no acknowledgement: what a receiver held in memory when it died is lost there. Required.
	Type Type `yaml:"type" config:"required" enum:"syslog,http"`
	// Address is the syslog receiver's host:port; the registered port is 6514.
	Address string `yaml:"address"`
	// URL is where batches are posted: https, or http to a loopback address. It holds no user, password or fragment.
	URL string `yaml:"url"`
	// CA is a PEM file of the authorities that may vouch for the receiver. Default: the system's.
	CA string `yaml:"ca" config:"path"`
	// ServerName is the name that the receiver's certificate must bear. Default: the host of address or url.
	ServerName string `yaml:"server_name"`
	// Headers are added to every POST; write ${file:…} for values that are secret. They print as [redacted].
	Headers map[string]Secret `yaml:"headers"`
	// TokenFile is a file with a token that is sent as "Authorization: <token_scheme> <token>"; a line end after it is
	// ignored. It is read again for every POST, so that it can be replaced at any time.
	TokenFile string `yaml:"token_file" config:"path"`
	// TokenScheme is the word before the token. Default "Bearer"; Splunk wants "Splunk".
	TokenScheme string `yaml:"token_scheme" default:"Bearer"`
	// Log is what is shipped: "decision", "control" or "both". Default "both".
	Log Logs `yaml:"log" default:"both" enum:"decision,control,both"`
	// Where chooses records, in the language of `sallyport audit query`, such as effect != "allow". Default: all.
	Where string `yaml:"where"`
	// Format is how a record is written: "jsonl" (the record itself), "ocsf" (http only) or "cef" (syslog only). Default
	// "jsonl".
	Format string `yaml:"format" default:"jsonl" enum:"jsonl,ocsf,cef"`
	// Encoding is how records make a POST: "array" is one JSON array, "ndjson" a line each. Default "ndjson".
	Encoding Encoding `yaml:"encoding" default:"ndjson" enum:"array,ndjson"`
	// Disclose ships e-mail addresses, IP addresses, user agents and queries as they are. Without it they are redacted as
	// in every export. Default false.
	Disclose bool `yaml:"disclose"`
	// Start says where a sink without a cursor begins: "oldest", the oldest record there is, or "newest", with what is
	// recorded from then on. Default "oldest".
	Start Start `yaml:"start" default:"oldest" enum:"oldest,newest"`
	// BatchRecords is how many records make a batch at most, 1 to 10,000. Default 500.
	BatchRecords int `yaml:"batch_records" default:"500"`
	// BatchBytes is how large a batch may become, 64 KiB to 64 MiB, and bounds the memory of the sink. Default 1 MiB.
	BatchBytes int `yaml:"batch_bytes" default:"1048576"`
	// BatchWait is how long records wait for others before they are sent, up to a minute. Default 1s.
	BatchWait time.Duration `yaml:"batch_wait" default:"1s"`
	// Timeout is how long the receiver may take for a batch, connecting included, up to 5 minutes. Default 30s.
	Timeout time.Duration `yaml:"timeout" default:"30s"`
}

// Type is a kind of receiver.
type Type string

// The kinds of receivers.
const (
	Syslog Type = "syslog"
	HTTP   Type = "http"
)

// Logs says which logs are shipped.
type Logs string

// The choices of logs.
const (
	Both     Logs = "both"
	Decision Logs = audit.DecisionLog
	Control  Logs = audit.ControlLog
)

// Encoding says how records make a POST.
type Encoding string

// The encodings.
const (
	Array  Encoding = "array"
	NDJSON Encoding = "ndjson"
)

// Start says where a sink without a cursor begins.
type Start string

// The places to begin at.
const (
	Oldest Start = "oldest"
	Newest Start = "newest"
)

// Secret is a text that prints as [redacted].
type Secret string

const redacted = "[redacted]"

func (s Secret) String() string               { return redacted }
func (s Secret) GoString() string             { return redacted }
func (s Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText takes the text as it is.
func (s *Secret) UnmarshalText(b []byte) error { *s = Secret(b); return nil }

var (
	nameForm   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)
	headerForm = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$") // RFC 9110 §5.1: a token
)

const (
	maxBatchRecords = 10_000
	minBatchBytes   = 64 << 10
	maxBatchBytes   = 64 << 20
	maxBatchWait    = time.Minute
	maxTimeout      = 5 * time.Minute
)

// filled is c with its defaults in place of what is absent.
func (c Config) filled() Config {
	fill(&c.Log, Both)
	fill(&c.Format, export.JSONL)
	fill(&c.Encoding, NDJSON)
	fill(&c.Start, Oldest)
	fill(&c.TokenScheme, "Bearer")
	fill(&c.BatchRecords, 500)
	fill(&c.BatchBytes, 1<<20)
	fill(&c.BatchWait, time.Second)
	fill(&c.Timeout, 30*time.Second)
	return c
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Check tells what in c cannot work.
func (c Config) Check() error {
	c = c.filled()
	if !nameForm.MatchString(c.Name) {
		return fmt.Errorf("name %q: want lower-case letters, digits and hyphens, at most 32", c.Name)
	}
	if err := c.checkReceiver(); err != nil {
		return err
	}
	if err := c.checkBatches(); err != nil {
		return err
	}
	if c.Log != Both && c.Log != Decision && c.Log != Control {
		return fmt.Errorf("log %q: want decision, control or both", c.Log)
	}
	if c.Start != Oldest && c.Start != Newest {
		return fmt.Errorf("start %q: want oldest or newest", c.Start)
	}
	if c.Where == "" {
		return nil
	}
	if _, err := filter.Compile(c.Where); err != nil {
		return fmt.Errorf("where: %w", err)
	}
	return nil
}

func (c Config) checkReceiver() error {
	switch c.Type {
	case Syslog:
		return c.checkSyslog()
	case HTTP:
		return c.checkHTTP()
	}
	return fmt.Errorf("type %q: want syslog or http", c.Type)
}

func (c Config) checkSyslog() error {
	host, port, err := net.SplitHostPort(c.Address)
	switch {
	case err != nil || host == "" || port == "":
		return fmt.Errorf("address %q: want host:port, the registered port for syslog over TLS is 6514", c.Address)
	case c.URL != "" || len(c.Headers) > 0 || c.TokenFile != "":
		return errors.New("url, headers and token_file are for type http")
	case c.Format != export.JSONL && c.Format != export.CEF:
		return fmt.Errorf("format %q: syslog takes jsonl or cef", c.Format)
	}
	return nil
}

func (c Config) checkHTTP() error {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil: // its text would repeat the URL
		return errors.New("url is malformed")
	case c.Address != "":
		return errors.New("address is for type syslog; type http takes a url")
	case u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("url: want https://host/path")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return errors.New("url: http goes to a loopback address such as 127.0.0.1 only, anything else needs https")
	case u.User != nil || u.Fragment != "":
		return errors.New("url must hold no user, password or fragment: use headers or token_file")
	case c.Format != export.JSONL && c.Format != export.OCSF:
		return fmt.Errorf("format %q: http takes jsonl or ocsf", c.Format)
	case c.Encoding != Array && c.Encoding != NDJSON:
		return fmt.Errorf("encoding %q: want array or ndjson", c.Encoding)
	case !headerForm.MatchString(c.TokenScheme):
		return errors.New("token_scheme must be one word")
	}
	return c.checkHeaders()
}

func (c Config) checkHeaders() error {
	for name, value := range c.Headers {
		switch lower := strings.ToLower(name); {
		case !headerForm.MatchString(name):
			return fmt.Errorf("headers: %q is no name of a header", name)
		case lower == "host" || lower == "content-length" || lower == "content-type" || lower == "transfer-encoding" || lower == "connection":
			return fmt.Errorf("headers: %q is not to be set", name)
		case lower == "authorization" && c.TokenFile != "":
			return errors.New("headers: authorization comes from token_file already")
		case strings.ContainsAny(string(value), "\r\n\x00"):
			return fmt.Errorf("headers: the value of %q has a line break", name)
		}
	}
	return nil
}

func (c Config) checkBatches() error {
	switch {
	case c.BatchRecords < 1 || c.BatchRecords > maxBatchRecords:
		return fmt.Errorf("batch_records is %d, not between 1 and %d", c.BatchRecords, maxBatchRecords)
	case c.BatchBytes < minBatchBytes || c.BatchBytes > maxBatchBytes:
		return fmt.Errorf("batch_bytes is %d, not between %d and %d", c.BatchBytes, minBatchBytes, maxBatchBytes)
	case c.BatchWait < 0 || c.BatchWait > maxBatchWait:
		return fmt.Errorf("batch_wait is %s, not between 0s and %s", c.BatchWait, maxBatchWait)
	case c.Timeout < 0 || c.Timeout > maxTimeout:
		return fmt.Errorf("timeout is %s, not between 0s and %s", c.Timeout, maxTimeout)
	}
	return nil
}

// CheckAll checks sinks that run side by side.
func CheckAll(configs []Config) error {
	seen := map[string]bool{}
	for _, c := range configs {
		if err := c.Check(); err != nil {
			return fmt.Errorf("audit sink %q: %w", c.Name, err)
		}
		if seen[c.Name] {
			return fmt.Errorf("audit sink %q: there are two of that name, and a cursor has one owner", c.Name)
		}
		seen[c.Name] = true
	}
	return nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
