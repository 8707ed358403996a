package boot

import (
	"errors"

	"sallyport/gateway/config"
	"sallyport/gateway/place"
)

// locate reads where clients are found, and what sessions are held to.
func (f *frozen) locate() (err error) {
	cfg := f.config
	f.snapshot.Bind, f.snapshot.Reauthenticate = cfg.Session.Bind, cfg.Session.Reauthenticate
	if cfg.Session.Bind.ClientCertificate && len(cfg.TLS.ClientCertificates.Authorities) == 0 {
		return errors.New("session.bind.client_certificate: nobody is asked for a certificate without tls.client_certificates.authorities")
	}
	f.snapshot.Places, err = place.New(cfg.Networks, cfg.GeoIP)
	return err
}

// databases are the files that say where clients are.
func databases(cfg *config.Config) []string {
	if cfg.GeoIP.Database == "" {
		return nil
	}
	return []string{cfg.GeoIP.Database}
}
