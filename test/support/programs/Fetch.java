import java.io.FileInputStream;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** Fetches URLs, one line for each outcome. Arguments: CA file, port of the proxy or - for none, URLs. */
public class Fetch {
    public static void main(String[] args) throws Exception {
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null, null);
        try (FileInputStream ca = new FileInputStream(args[0])) {
            trusted.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(ca));
        }
        TrustManagerFactory managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        managers.init(trusted);
        SSLContext tls = SSLContext.getInstance("TLS");
        tls.init(null, managers.getTrustManagers(), null);
        HttpClient.Builder builder = HttpClient.newBuilder().sslContext(tls);
        if (!args[1].equals("-")) {
            builder.proxy(ProxySelector.of(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[1]))));
        }
        HttpClient client = builder.build();
        for (int i = 2; i < args.length; i++) {
            try {
                var response = client.send(HttpRequest.newBuilder(URI.create(args[i])).build(), BodyHandlers.ofString());
                System.out.println(response.statusCode() + " " + response.headers().firstValue("Proxy-Status").orElse("-") + " " + response.body());
            } catch (IOException error) {
                System.out.println(error);
            }
        }
    }
}
