package sink

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A configuration that cannot work, or would send records or secrets where they do not belong, is refused before anything starts.
func TestConfigIsChecked(t *testing.T) {
	web := Config{Name: "web", Type: HTTP, URL: "https://siem.example/in"}
	syslog := Config{Name: "syslog", Type: Syslog, Address: "siem.example:6514"}
	for _, c := range []struct {
		of     Config
		change func(*Config)
		want   string // in the error; empty: accepted
	}{
		{web, func(*Config) {}, ""},
		{syslog, func(*Config) {}, ""},
		{web, func(c *Config) { c.URL = "http://127.0.0.1:9/in" }, ""},
		{web, func(c *Config) { c.URL = "http://[::1]:9/in" }, ""},
		{web, func(c *Config) { c.Where = `effect != "allow" && time >= "2026-11-01"` }, ""},
		{web, func(c *Config) { c.Format = "ocsf" }, ""},
		{syslog, func(c *Config) { c.Format = "cef" }, ""},
		{web, func(c *Config) { c.Name = "../x" }, "name"},
		{web, func(c *Config) { c.Name = "" }, "name"},
		{web, func(c *Config) { c.Type = "udp" }, "type"},
		{web, func(c *Config) { c.URL = "http://siem.example/in" }, "loopback"},
		{web, func(c *Config) { c.URL = "http://127.0.0.1.example/in" }, "loopback"},
		{web, func(c *Config) { c.URL = "ftp://siem.example/in" }, "url"},
		{web, func(c *Config) { c.URL = "https://" }, "url"},
		{web, func(c *Config) { c.URL = "https://user:hush@siem.example/" }, "user"},
		{web, func(c *Config) { c.URL = "https://siem.example/%zz?hush" }, "malformed"},
		{web, func(c *Config) { c.Address = "siem.example:6514" }, "address"},
		{web, func(c *Config) { c.Format = "cef" }, "format"},
		{web, func(c *Config) { c.Encoding = "xml" }, "encoding"},
		{web, func(c *Config) { c.Headers = map[string]Secret{"X Y": "hush"} }, "header"},
		{web, func(c *Config) { c.Headers = map[string]Secret{"X-Y": "hush\r\nZ: 1"} }, "line break"},
		{web, func(c *Config) { c.Headers = map[string]Secret{"host": "hush"} }, "not to be set"},
		{web, func(c *Config) { c.Headers, c.TokenFile = map[string]Secret{"Authorization": "hush"}, "/x" }, "token_file"},
		{web, func(c *Config) { c.TokenScheme = "a b" }, "token_scheme"},
		{web, func(c *Config) { c.Log = "access" }, "log"},
		{web, func(c *Config) { c.Start = "now" }, "start"},
		{web, func(c *Config) { c.Where = "nothing ==" }, "where"},
		{web, func(c *Config) { c.BatchRecords = -1 }, "batch_records"},
		{web, func(c *Config) { c.BatchBytes = 100 }, "batch_bytes"},
		{web, func(c *Config) { c.BatchWait = time.Hour }, "batch_wait"},
		{web, func(c *Config) { c.Timeout = time.Hour }, "timeout"},
		{syslog, func(c *Config) { c.Address = "siem.example" }, "6514"},
		{syslog, func(c *Config) { c.Address = ":6514" }, "address"},
		{syslog, func(c *Config) { c.URL = "https://siem.example/" }, "type http"},
		{syslog, func(c *Config) { c.Format = "ocsf" }, "format"},
	} {
		cfg := c.of
		c.change(&cfg)
		err := cfg.Check()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%+v: %v", cfg, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%+v: %v, want something about %q", cfg, err, c.want)
		case strings.Contains(fmt.Sprint(err), "hush"):
			t.Errorf("the error says the secret: %v", err)
		}
	}
}
