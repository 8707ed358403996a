package bench

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"sallyport/test/harness"
)

// peer is a proxy that other people wrote, set up as a plain one that ends TLS: no access log, connections to the app
// kept, as many threads as there are processors.
type peer struct {
	name, program string
	version       []string // arguments that make it print its version
	file          string   // name of its configuration
	config        func(p place) string
	args          func(p place) []string
}

// place is what a peer's configuration depends on.
type place struct {
	port     int
	dir      string
	made     credentials
	app      string // host and port
	appRoots string // file; empty when the app speaks plain HTTP
}

var peers = []peer{
	{name: "nginx", program: "nginx", version: []string{"-v"}, file: "nginx.conf", config: nginxConfig,
		args: func(p place) []string {
			return []string{"-e", "stderr", "-p", p.dir, "-c", filepath.Join(p.dir, "nginx.conf")}
		}},
	{name: "HAProxy", program: "haproxy", version: []string{"-v"}, file: "haproxy.cfg", config: haproxyConfig,
		args: func(p place) []string { return []string{"-db", "-f", filepath.Join(p.dir, "haproxy.cfg")} }},
	{name: "Caddy", program: "caddy", version: []string{"version"}, file: "Caddyfile", config: caddyConfig,
		args: func(p place) []string {
			return []string{"run", "--adapter", "caddyfile", "--config", filepath.Join(p.dir, "Caddyfile")}
		}},
}

// peers starts those that are installed, and says which are not.
func (bed *bed) peers(b *testing.B) (started []*subject) {
	for _, p := range peers {
		program, err := exec.LookPath(p.program)
		if err != nil {
			fmt.Printf("%s is not installed: test/bench/setup installs it where Debian's packages are\n", p.name)
			continue
		}
		started = append(started, bed.start(b, p, program))
	}
	return started
}

func (bed *bed) start(b *testing.B, p peer, program string) *subject {
	u, err := url.Parse(bed.app.url)
	if err != nil {
		b.Fatal(err)
	}
	at := place{port: harness.FreePort(b), dir: b.TempDir(), app: u.Host, appRoots: bed.app.certificate}
	if at.made, err = newCredentials(at.dir); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(at.dir, p.file), []byte(p.config(at)), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(program, p.args(at)...)
	output, err := os.Create(filepath.Join(at.dir, "output"))
	if err != nil {
		b.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.Env = append(os.Environ(), "HOME="+at.dir, "XDG_DATA_HOME="+at.dir, "XDG_CONFIG_HOME="+at.dir)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) // nginx's master ends its workers
		cmd.Wait()
		if text, err := os.ReadFile(output.Name()); err == nil && b.Failed() {
			b.Logf("%s printed %.2000s", p.name, text)
		}
	})
	x := &subject{name: p.name + " " + versionOf(program, p.version), address: fmt.Sprintf("127.0.0.1:%d", at.port), host: certificateName}
	x.await(b, at.made.certFile)
	x.pids = family(b, cmd.Process.Pid)
	return x
}

var versionNumber = regexp.MustCompile(`\d+\.\d+\.\d+`)

func versionOf(program string, args []string) string {
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		return ""
	}
	return versionNumber.FindString(string(out))
}

func nginxConfig(p place) string {
	user, verify, scheme := "", "", "http"
	if os.Getuid() == 0 {
		user = "user root;"
	}
	if p.appRoots != "" {
		scheme = "https"
		verify = "proxy_ssl_verify on; proxy_ssl_trusted_certificate " + p.appRoots + "; proxy_ssl_name " + certificateName + "; proxy_ssl_protocols TLSv1.3;"
	}
	return fmt.Sprintf(`daemon off;
%s
worker_processes auto;
pid nginx.pid;
events { worker_connections 1024; }
http {
	access_log off;
	keepalive_requests 1000000000;
	client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
	upstream app { server %s; keepalive 64; keepalive_requests 1000000000; }
	server {
		listen 127.0.0.1:%d ssl;
		ssl_certificate %s;
		ssl_certificate_key %s;
		ssl_protocols TLSv1.3;
		location / {
			proxy_pass %s://app;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Host $http_host;
			proxy_buffers 16 8k;
			%s
		}
	}
}
`, user, p.app, p.port, p.made.certFile, p.made.keyFile, scheme, verify)
}

func haproxyConfig(p place) string {
	secure := ""
	if p.appRoots != "" {
		secure = "ssl verify required ca-file " + p.appRoots + " ssl-min-ver TLSv1.3"
	}
	return fmt.Sprintf(`global
	maxconn 1024
defaults
	mode http
	timeout connect 5s
	timeout client 1m
	timeout server 1m
	http-reuse always
frontend door
	bind 127.0.0.1:%d ssl crt %s ssl-min-ver TLSv1.3 alpn http/1.1
	default_backend app
backend app
	server app %s %s
`, p.port, p.made.combinedFile, p.app, secure)
}

func caddyConfig(p place) string {
	scheme, secure := "http", ""
	if p.appRoots != "" {
		scheme, secure = "https", "tls_trusted_ca_certs "+p.appRoots+"\n\t\t\ttls_server_name "+certificateName
	}
	return strings.TrimLeft(fmt.Sprintf(`
{
	admin off
	auto_https off
	log {
		level ERROR
	}
	servers {
		protocols h1
	}
}
https://%s:%d {
	bind 127.0.0.1
	tls %s %s {
		protocols tls1.3
	}
	reverse_proxy %s://%s {
		transport http {
			keepalive_idle_conns_per_host 256
			versions 1.1
			%s
		}
	}
}
`, certificateName, p.port, p.made.certFile, p.made.keyFile, scheme, p.app, secure), "\n")
}
