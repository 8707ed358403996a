package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// client is an HTTP client for the gateway: it trusts the demo's CA and finds *.sallyport.localhost, which Go does not
// resolve, at the gateway's address.
func (d *demo) client() (*http.Client, error) {
	pem, err := os.ReadFile(d.folder.ca())
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New(d.folder.ca() + " holds no certificate")
	}
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, d.listen)
	}
	return &http.Client{
		Transport:     &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: roots}, TLSHandshakeTimeout: 5 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// answers waits until the gateway sends people to the provider and shows a certificate for every app.
func (d *demo) answers(ctx context.Context, client *http.Client) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := d.probe(ctx, client)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the gateway did not answer within %v: %w", startTime, err)
		}
	}
}

func (d *demo) probe(ctx context.Context, client *http.Client) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.origin("auth")+"/.sallyport/start", nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "text/html")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if to := response.Header.Get("Location"); !strings.HasPrefix(to, d.issuer+"/") {
		return fmt.Errorf("sign-in leads to %q (%s), not to the provider", to, response.Status)
	}
	return d.handshakes(ctx, client)
}

// handshakes sends no request, so that the log starts with what people do.
func (d *demo) handshakes(ctx context.Context, client *http.Client) error {
	for _, p := range d.places {
		config := client.Transport.(*http.Transport).TLSClientConfig.Clone()
		config.ServerName = p.Name + "." + domain
		connection, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", d.listen)
		if err != nil {
			return fmt.Errorf("%s: %w", config.ServerName, err)
		}
		connection.Close()
	}
	return nil
}
