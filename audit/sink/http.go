package sink

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// maxAnswer is how much of an answer is read so that the connection can be used again. Nothing is done with it: it
	// may repeat what was sent.
	maxAnswer = 64 << 10
	// maxToken bounds the file of a token in bytes.
	maxToken = 16 << 10
	// idleConnection is how long a connection is kept for the next batch.
	idleConnection = 90 * time.Second
)

// openReceiver makes the other end of a sink, without connecting.
func openReceiver(c Config, ca string) (receiver, error) {
	settings, err := tlsConfig(c, ca)
	if err != nil {
		return nil, err
	}
	if c.Type == Syslog {
		return newSyslog(c, settings), nil
	}
	return newPoster(c, settings), nil
}

// tlsConfig demands TLS 1.2 and a certificate that the configured authorities, or the system's, vouch for.
func tlsConfig(c Config, ca string) (*tls.Config, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CA != "" {
		settings.RootCAs = x509.NewCertPool()
		if !settings.RootCAs.AppendCertsFromPEM([]byte(ca)) {
			return nil, fmt.Errorf("ca: %s holds no certificate in PEM", c.CA)
		}
	}
	return settings, nil
}

// poster is an HTTP receiver. A batch is delivered when it was answered with 2xx.
type poster struct {
	cfg    Config
	client *http.Client
}

func newPoster(c Config, settings *tls.Config) *poster {
	transport := &http.Transport{
		TLSClientConfig: settings, ForceAttemptHTTP2: true, MaxIdleConns: 1, MaxConnsPerHost: 1,
		IdleConnTimeout: idleConnection, DisableCompression: true, MaxResponseHeaderBytes: maxAnswer,
		DialContext: (&net.Dialer{}).DialContext,
	}
	// A redirect would carry records and token to wherever an answer says.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &poster{c, &http.Client{Transport: transport, CheckRedirect: stay}}
}

func (p *poster) close() { p.client.CloseIdleConnections() }

// send posts one batch.
func (p *poster) send(ctx context.Context, items []item) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.cfg.URL, bytes.NewReader(p.body(items)))
	if err != nil {
		return errors.New("making the request: the url is malformed")
	}
	if err := p.head(req); err != nil {
		return err
	}
	res, err := p.client.Do(req)
	if err != nil {
		return quiet(ctx, err)
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer))
	return judge(res, quiet(ctx, err))
}

func (p *poster) head(req *http.Request) error {
	req.Header.Set("User-Agent", "sallyport")
	req.Header.Set("Content-Type", "application/x-ndjson")
	if p.cfg.Encoding == Array {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range p.cfg.Headers {
		req.Header.Set(name, string(value))
	}
	if p.cfg.TokenFile == "" {
		return nil
	}
	token, err := readToken(p.cfg.TokenFile)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", p.cfg.TokenScheme+" "+token)
	return nil
}

// body is an array of records, or a line each.
func (p *poster) body(items []item) []byte {
	size := 2
	for _, it := range items {
		size += len(it.line)
	}
	b := make([]byte, 0, size)
	for i, it := range items {
		line := bytes.TrimSuffix(it.line, []byte("\n"))
		switch {
		case p.cfg.Encoding != Array:
			b = append(append(b, line...), '\n')
		case i == 0:
			b = append(append(b, '['), line...)
		default:
			b = append(append(b, ','), line...)
		}
	}
	if p.cfg.Encoding == Array {
		b = append(b, ']')
	}
	return b
}

// judge turns an answer into what follows from it. An answer that breaks off after 2xx was given all the same.
func judge(res *http.Response, broken error) error {
	switch code := res.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code == http.StatusRequestEntityTooLarge, code == http.StatusBadRequest, code == http.StatusUnprocessableEntity:
		return &verdict{status: code, refused: true}
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		return &verdict{status: code, after: retryAfter(res.Header.Get("Retry-After"), time.Now())}
	case broken != nil:
		return broken
	default:
		return &verdict{status: code}
	}
}

// retryAfter reads the field of RFC 9110 §10.2.3: seconds, or a date. What it cannot read asks for nothing.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// quiet is what went wrong without the URL, whose query may be a secret, and without a word of the receiver's.
func quiet(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return plain(err)
}

// readToken reads a token. It is one visible word: anything else is rather the wrong file.
func readToken(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("reading token_file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("reading token_file: %w", err)
	}
	token := strings.TrimRight(string(b), "\r\n")
	for _, r := range token {
		if r <= ' ' || r > '~' {
			return "", fmt.Errorf("reading token_file: %s holds more than one line of visible characters", name)
		}
	}
	if token == "" || len(b) > maxToken {
		return "", fmt.Errorf("reading token_file: %s is empty or larger than %d bytes", name, maxToken)
	}
	return token, nil
}
