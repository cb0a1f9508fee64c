package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// selfSigned writes a certificate of 127.0.0.1 and its key, and returns their files.
func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "masterd"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestThreat_eavesdropping: where others could listen, masterd speaks TLS 1.3 or does not
// start.
func TestThreat_eavesdropping(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--listen", "0.0.0.0:0"}, "plain HTTP on 0.0.0.0:0 would show tokens"},
		{[]string{"--listen", "[::]:0"}, "plain HTTP"},
		{[]string{"--listen", ":0"}, "plain HTTP"},
		{[]string{"--listen", "0.0.0.0:0", "--insecure"}, "--insecure on 0.0.0.0:0"},
		{[]string{"--listen", "127.0.0.1:0", "--insecure", "--behind-proxy"}, "--insecure behind a proxy"},
		{[]string{"--listen", "127.0.0.1:0", "--tls-cert", "x"}, "belong together"},
	} {
		err := run(t.Context(), append(tt.args, "--data", t.TempDir()), io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("masterd %v: %v, want %q", tt.args, err, tt.want)
		}
	}

	cert, key := selfSigned(t)
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, []string{"--listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key, "--data", t.TempDir()}, io.Discard, write)
		write.Close()
		ended <- err
	}()
	address := make(chan string, 1)
	go func() {
		listening := regexp.MustCompile(`listening on https://(\S+),`)
		for lines := bufio.NewScanner(read); lines.Scan(); {
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
		}
		close(address)
	}()
	at, ok := <-address
	if !ok {
		t.Fatalf("masterd ended: %v", <-ended)
	}
	trusted := x509.NewCertPool()
	text, err := os.ReadFile(cert)
	if err != nil || !trusted.AppendCertsFromPEM(text) {
		t.Fatal(err)
	}
	get := func(scheme string, c *tls.Config) (*http.Response, error) {
		tr := &http.Transport{TLSClientConfig: c}
		defer tr.CloseIdleConnections()
		resp, err := (&http.Client{Transport: tr}).Get(scheme + "://" + at + "/health")
		if err == nil {
			resp.Body.Close()
		}
		return resp, err
	}
	if resp, err := get("https", &tls.Config{RootCAs: trusted}); err != nil || resp.StatusCode != 200 || resp.TLS.Version != tls.VersionTLS13 {
		t.Errorf("TLS: %+v, %v", resp, err)
	}
	if _, err := get("https", &tls.Config{RootCAs: trusted, MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("TLS 1.2 is spoken")
	}
	if _, err := get("https", &tls.Config{}); err == nil {
		t.Error("a client takes a certificate that nobody vouches for")
	}
	if resp, err := get("http", nil); err == nil && resp.StatusCode == 200 {
		t.Error("plain HTTP is answered")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
