"""Regression: early stopping on a validation split, intervals, several outputs.

The diabetes data: 442 patients, ten baseline measurements, disease progression one year on.
"""

from sklearn.datasets import load_diabetes, load_linnerud
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skorchlike import EarlyStopping, NeuralNetRegressor


def diabetes():
    X, y = load_diabetes(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0)
    net = NeuralNetRegressor(
        module__hidden_layer_sizes=(32,),
        module__dropout=0.2,
        optimizer__weight_decay=0.1,
        lr=0.003,
        max_epochs=200,
        batch_size=32,
        validation_fraction=0.2,
        callbacks=[EarlyStopping(patience=15)],
        random_state=0,
    )
    model = make_pipeline(StandardScaler(), net)
    model.fit(X_train, y_train)
    state = net.model_.callbacks_.early_stopping
    print(f"Trained {net.n_iter_} of 200 epochs (reason: {net.model_.stop_reason_});")
    print(f"weights of epoch {state['best_epoch']}, validation loss {state['best_score']:.3f}")
    print("First epochs (the target is in the hundreds, and scaled for the module):")
    print(net.history_.drop(columns="duration").head(3).to_string(index=False))
    print(f"Test R2: net {model.score(X_test, y_test):.3f}", end=", ")
    print(f"ridge regression {Ridge(0.1).fit(X_train, y_train).score(X_test, y_test):.3f}")
    scores = cross_val_score(model, X, y, cv=5)
    print(f"R2 in 5 folds: {scores.mean():.3f} +- {scores.std():.3f}")


def intervals():
    X, y = load_diabetes(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0)
    net = NeuralNetRegressor(
        criterion="quantile",
        criterion__quantile=(0.1, 0.5, 0.9),
        module__hidden_layer_sizes=(32,),
        module__dropout=0.2,
        optimizer__weight_decay=0.1,
        max_epochs=30,
        random_state=0,
    )
    model = make_pipeline(StandardScaler(), net).fit(X_train, y_train)
    low, _, high = net.predict_quantiles(model[:-1].transform(X_test)).T
    share = ((low < y_test) & (y_test < high)).mean()
    print(f"Between the quantiles 0.1 and 0.9: {share:.0%} of the test rows")


def several_outputs():
    X, Y = load_linnerud(return_X_y=True)  # 20 people: 3 exercises, 3 measurements
    net = NeuralNetRegressor(lr=0.01, max_epochs=50, random_state=0)
    predicted = make_pipeline(StandardScaler(), net).fit(X, Y).predict(X)
    print(f"Several outputs: y {Y.shape}, predictions {predicted.shape}")
    r2 = r2_score(Y, predicted, multioutput="raw_values")
    print(f"R2 of each output on the training rows: {r2.round(2).tolist()}")


if __name__ == "__main__":
    diabetes()
    intervals()
    several_outputs()
