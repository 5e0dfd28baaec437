// Connects as Go does by default, and says whether the server is believed: strict PORT TRUSTED
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

func main() {
	text, err := os.ReadFile(os.Args[2])
	if err != nil {
		panic(err)
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(text) {
		panic("no certificate in " + os.Args[2])
	}
	connection, err := tls.Dial("tcp", "127.0.0.1:"+os.Args[1], &tls.Config{RootCAs: trusted, ServerName: "localhost"})
	switch {
	case err == nil:
		connection.Close()
		fmt.Println("believed")
	case judged(err):
		fmt.Println("refused:", err)
	default:
		panic(err)
	}
}

// Whether the certificates are what was wrong. Before Go 1.20 there is no tls.CertificateVerificationError around these.
func judged(err error) bool {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &unknown) || errors.As(err, &invalid)
}
