package bench

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"syscall"
	"testing"

	"sallyport/gateway/boot"
	"sallyport/test/harness"
)

// bed is an app and what stands in front of it.
type bed struct {
	app  *app
	kind appKind
}

// appKind is how the app is reached.
type appKind struct {
	tls   bool
	apps  string // the gateway's apps: wiki is what is compared with others
	extra string // further top-level lines of its configuration
}

var (
	plainApp = appKind{apps: `
  - { name: wiki, host: wiki.corp.test, upstreams: ["APP"], access: { groups: [staff] } }
  - { name: payroll, host: payroll.corp.test, upstreams: ["APP"], access: { groups: [staff] } }
`}
	tlsApp = appKind{tls: true, apps: `
  - { name: wiki, host: wiki.corp.test, upstreams: ["APP"], upstream_tls: { ca: "CERTIFICATE" }, access: { groups: [staff] } }
  - { name: payroll, host: payroll.corp.test, upstreams: ["APP"], upstream_tls: { ca: "CERTIFICATE" }, access: { groups: [staff] } }
`}
	cachedApp = appKind{extra: "cache: { memory: 64MiB }", apps: `
  - { name: wiki, host: wiki.corp.test, upstreams: ["APP"], access: { groups: [staff] } }
  - { name: payroll, host: payroll.corp.test, upstreams: ["APP"], cache: { enabled: true, shared: true }, access: { groups: [staff] } }
`}
)

func newBed(b *testing.B, kind appKind) *bed {
	return &bed{app: newApp(b, kind.tls), kind: kind}
}

// everybody is the bare proxy, which is the yardstick, the gateway, and the peers that are installed.
func (bed *bed) everybody(b *testing.B) []*subject {
	gateway, _ := bed.gateway(b)
	return append([]*subject{bed.bare(b), gateway}, bed.peers(b)...)
}

// gateway is the real gateway as a person sees it on two of its hosts, wiki and payroll.
func (bed *bed) gateway(b *testing.B) (wiki, payroll *subject) {
	apps := strings.NewReplacer("APP", bed.app.url, "CERTIFICATE", bed.app.certificate).Replace(bed.kind.apps)
	s := harness.New(b, apps, bed.kind.extra)
	c := newChild(b, "gateway", s.Config, profileName(b))
	process := s.StartCommand(b, c.Cmd)
	c.started()
	b.Cleanup(func() { // runs before the harness's kill, so that a profile is complete
		process.Stop()
		if b.Failed() {
			b.Logf("the gateway printed: %s", process.Output())
		}
	})
	browser := s.Browser()
	list := []string{"staff"}
	for i := len(list); i < groups; i++ {
		list = append(list, fmt.Sprintf("department-%02d-readers", i))
	}
	on := func(label, name string) *subject {
		if status, body := s.SignIn(b, browser, label, "ada", list...); status != http.StatusOK {
			b.Fatalf("sign-in ended with %d: %s", status, body)
		}
		return &subject{name: name, address: s.Address(), host: label + "." + harness.Domain, roots: s.Roots(),
			pids: family(b, process.Pid()), child: c, dir: s.Dir, cookie: s.Cookie(b, browser, label).String()}
	}
	return on("wiki", "sallyport"), on("payroll", "sallyport, other app")
}

// profileName is where the gateway of this benchmark writes its CPU profile, or empty.
func profileName(b *testing.B) string {
	dir := os.Getenv("SALLYPORT_PROFILE")
	if dir == "" {
		return ""
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	return filepath.Join(dir, strings.ReplaceAll(b.Name(), "/", "-")+".prof")
}

// runGateway is the real gateway with its request log discarded, as the others write none.
func runGateway(args []string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go tellAllocations()
	if name := args[1]; name != "" {
		f, err := os.Create(name)
		if err != nil {
			log.Fatal(err)
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			log.Fatal(err)
		}
		defer pprof.StopCPUProfile()
	}
	if err := boot.Run(ctx, args[0], boot.Options{Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}); err != nil {
		log.Print(err)
	}
}
